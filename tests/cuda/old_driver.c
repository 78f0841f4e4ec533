/* A driver's library that has next to nothing: what a very old one looks like. */
__attribute__((visibility("default"))) int cuInit(unsigned flags);

int cuInit(unsigned flags) {
    (void)flags;
    return 0;
}
