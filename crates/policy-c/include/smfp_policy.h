/* The runtime of exported policies (policy.smfp of `runner export`), for C and C++.
 *
 * A handle holds a policy and its working memory: use it from one thread at a time. Different
 * handles are independent; nothing is global, nothing is allocated by smfp_act, no thread is
 * started. Functions that can fail return SMFP_OK or another code, which smfp_error explains. */
#ifndef SMFP_POLICY_H
#define SMFP_POLICY_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct smfp_policy smfp_policy;

enum {
    SMFP_OK = 0,
    SMFP_NULL = 1,         /* an argument is NULL that must not be */
    SMFP_FILE = 2,         /* the file can't be read */
    SMFP_NOT_A_POLICY = 3, /* the file does not begin as a policy.smfp does */
    SMFP_VERSION = 4,      /* a format version that this runtime does not know */
    SMFP_DAMAGED = 5,      /* the file is cut or damaged */
    SMFP_INVALID = 6,      /* an operation of the file is invalid */
    SMFP_PANIC = 7         /* an internal failure; the handle must not be used again */
};

/* Loads a policy from the bytes of a policy.smfp, which may be freed afterwards. On failure
 * *policy is NULL. */
int smfp_load(const uint8_t *bytes, size_t length, smfp_policy **policy);

/* The same from a file. */
int smfp_load_file(const char *path, smfp_policy **policy);

/* Lengths of the observation, the latent z, the noise xi and the actions. A length of z or xi is
 * 0 if the policy has no such noise. */
int smfp_sizes(const smfp_policy *policy, size_t sizes[4]);

/* Writes the actions for an observation. z and xi are standard-normal numbers; NULL stands for
 * zeros. The arrays have the lengths of smfp_sizes. A NaN in the observation is passed on: the
 * actions that depend on it are NaN. */
int smfp_act(smfp_policy *policy, const float *obs, const float *z, const float *xi,
             float *actions);

/* Frees a policy; NULL is allowed. */
void smfp_free(smfp_policy *policy);

/* What a code means: a static string, never NULL. */
const char *smfp_error(int code);

#ifdef __cplusplus
}
#endif

#endif
