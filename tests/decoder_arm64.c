/* Runs decoder.c for a frame on the memory of a State that tests/test_decoder_arm64.py has saved.
 * The file begins with three numbers (how many addresses it holds, where the State is, and where
 * and how many the codes are) and the positions of the addresses, which count from its beginning. */
#include <stdio.h>
#include <stdlib.h>

typedef long long i64;
extern void run(void *state, i64 thread, i64 first, i64 last, i64 known);
int yield_thread(void) { return 0; }

int main(int count, char **paths)
{
    FILE *file = fopen(paths[1], "rb");
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    char *image = aligned_alloc(64, (size + 63) / 64 * 64);
    rewind(file);
    if (count != 3 || fread(image, 1, size, file) != (size_t)size) return 1;
    i64 *head = (i64 *)image;
    for (i64 i = 0; i < head[0]; i++) *(i64 *)(image + head[4 + i]) += (i64)image;
    run(image + head[1], 0, 0, 512, 0);
    file = fopen(paths[2], "wb");
    return fwrite(image + head[2], 1, head[3], file) != (size_t)head[3] || fclose(file);
}
