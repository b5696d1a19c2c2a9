// SPDX-License-Identifier: Apache-2.0
// intel-ipsec-mb that begins to seal wrongly while it is used: loaded in place of the real library, which
// IPSEC_MB_LIBRARY names, it flips a bit of every tag once the file IPSEC_MB_FAULT is there.
#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <stdlib.h>
#include <unistd.h>

static void* library(void) {
  static void* handle;
  if (handle == NULL) handle = dlopen(getenv("IPSEC_MB_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  if (handle == NULL) abort();
  return handle;
}

static int faulty(void) { return access(getenv("IPSEC_MB_FAULT"), F_OK) == 0; }

static aes_gcm_enc_dec_t gcm_seal;
static submit_job_t submit;
static flush_job_t flush;
static get_completed_job_t completed;

static void spoil_gcm(const struct gcm_key_data* key, struct gcm_context_data* context, uint8_t* out,
                      const uint8_t* in, uint64_t size, const uint8_t* iv, const uint8_t* aad,
                      uint64_t aad_size, uint8_t* tag, uint64_t tag_size) {
  gcm_seal(key, context, out, in, size, iv, aad, aad_size, tag, tag_size);
  if (faulty()) tag[0] ^= 1;
}

static IMB_JOB* spoil(IMB_JOB* job) {
  if (job != NULL && job->cipher_direction == IMB_DIR_ENCRYPT && faulty()) job->auth_tag_output[0] ^= 1;
  return job;
}
static IMB_JOB* spoil_submit(IMB_MGR* manager) { return spoil(submit(manager)); }
static IMB_JOB* spoil_flush(IMB_MGR* manager) { return spoil(flush(manager)); }
static IMB_JOB* spoil_completed(IMB_MGR* manager) { return spoil(completed(manager)); }

IMB_MGR* alloc_mb_mgr(uint64_t flags) {
  return ((IMB_MGR * (*)(uint64_t)) dlsym(library(), "alloc_mb_mgr"))(flags);
}
void free_mb_mgr(IMB_MGR* manager) { ((void (*)(IMB_MGR*))dlsym(library(), "free_mb_mgr"))(manager); }

void init_mb_mgr_auto(IMB_MGR* manager, IMB_ARCH* arch) {
  ((void (*)(IMB_MGR*, IMB_ARCH*))dlsym(library(), "init_mb_mgr_auto"))(manager, arch);
  gcm_seal = manager->gcm256_enc;
  submit = manager->submit_job_nocheck;
  flush = manager->flush_job;
  completed = manager->get_completed_job;
  manager->gcm256_enc = spoil_gcm;
  manager->submit_job_nocheck = spoil_submit;
  manager->flush_job = spoil_flush;
  manager->get_completed_job = spoil_completed;
}
