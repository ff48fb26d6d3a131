/* Loads the file of argv[1] and acts on observations from stdin; prints the actions' bits. Then
 * wrong calls, each of which must return its code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "smfp_policy.h"

static int fail(const char *what) {
    fprintf(stderr, "%s\n", what);
    return 1;
}

int main(int argc, char **argv) {
    smfp_policy *policy;
    size_t sizes[4];
    int code = argc < 2 ? SMFP_NULL : smfp_load_file(argv[1], &policy);
    if (code) return fail(smfp_error(code));
    if (smfp_sizes(policy, sizes)) return fail("sizes");
    float *obs = malloc(sizes[0] * sizeof *obs), *z = malloc(sizes[1] * sizeof *z);
    float *xi = malloc(sizes[2] * sizeof *xi), *actions = malloc(sizes[3] * sizeof *actions);
    while (fread(obs, sizeof *obs, sizes[0], stdin) == sizes[0]) {
        if (fread(z, sizeof *z, sizes[1], stdin) != sizes[1]) return fail("z");
        if (fread(xi, sizeof *xi, sizes[2], stdin) != sizes[2]) return fail("xi");
        for (int noise = 0; noise < 2; noise++) {
            if (smfp_act(policy, obs, noise ? z : NULL, noise ? xi : NULL, actions))
                return fail("act");
            for (size_t i = 0; i < sizes[3]; i++) {
                unsigned bits;
                memcpy(&bits, &actions[i], sizeof bits);
                printf("%08x\n", bits);
            }
        }
    }
    if (smfp_act(policy, NULL, NULL, NULL, actions) != SMFP_NULL) return fail("obs NULL");
    if (smfp_act(NULL, obs, NULL, NULL, actions) != SMFP_NULL) return fail("policy NULL");
    if (smfp_sizes(policy, NULL) != SMFP_NULL) return fail("sizes NULL");
    free(obs), free(z), free(xi), free(actions);
    smfp_free(policy);
    smfp_free(NULL);

    FILE *file = fopen(argv[1], "rb");
    uint8_t *bytes = malloc(1 << 20);
    size_t length = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    policy = (smfp_policy *)bytes;
    if (smfp_load(bytes, length - 1, &policy) != SMFP_DAMAGED || policy) return fail("cut");
    if (smfp_load(bytes, 4, &policy) != SMFP_NOT_A_POLICY) return fail("short");
    bytes[8] = 99;
    if (smfp_load(bytes, length, &policy) != SMFP_VERSION) return fail("version");
    if (smfp_load(NULL, 0, &policy) != SMFP_NULL) return fail("bytes NULL");
    if (smfp_load_file("no such file", &policy) != SMFP_FILE || policy) return fail("file");
    if (smfp_load(bytes, length, NULL) != SMFP_NULL) return fail("out NULL");
    free(bytes);
    return 0;
}
