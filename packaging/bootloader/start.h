/* What internal.c does for start.c. */
struct _gc_runtime_state;

/* Switch the collector off from the first instruction. */
void no_garbage_collection(struct _gc_runtime_state *state);

/* Make the registry of codecs and of their error handlers, without importing the package `encodings`. Returns -1 where it fails. */
int make_codec_registry(void);
