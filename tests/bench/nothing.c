/* A program that does nothing: the least that starting any plugin costs. */
int main(void) { return 0; }
