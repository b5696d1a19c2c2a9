// SPDX-License-Identifier: Apache-2.0
// intel-ipsec-mb through its job interface. The library is opened at run time: an addon built here
// runs on machines without it, and a prebuilt one needs nothing installed.
#include "crypto/aead.h"

#if defined(OMERTA_HAVE_IPSEC_MB)

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <sodium.h>

#include <algorithm>

namespace omerta::crypto {
namespace {

/// The few functions that are not reached through the manager.
struct Library {
  decltype(&alloc_mb_mgr) allocate = nullptr;
  decltype(&free_mb_mgr) release = nullptr;
  decltype(&init_mb_mgr_auto) initialise = nullptr;
};

const Library& library() {
  static const Library loaded = [] {
    Library l;
    void* handle = dlopen("libIPSec_MB.so.1", RTLD_NOW | RTLD_LOCAL);  // stays: code is in use from now on
    if (handle != nullptr) {
      l.allocate = reinterpret_cast<decltype(l.allocate)>(dlsym(handle, "alloc_mb_mgr"));
      l.release = reinterpret_cast<decltype(l.release)>(dlsym(handle, "free_mb_mgr"));
      l.initialise = reinterpret_cast<decltype(l.initialise)>(dlsym(handle, "init_mb_mgr_auto"));
    }
    return l;
  }();
  return loaded;
}

struct ReleaseManager {
  void operator()(IMB_MGR* manager) const { library().release(manager); }
};
using Manager = std::unique_ptr<IMB_MGR, ReleaseManager>;

class IpsecMbAead final : public TransportAead {
 public:
  explicit IpsecMbAead(Manager manager) : manager_(std::move(manager)) {}

  void seal(std::span<AeadJob> jobs) override { run(jobs, IMB_DIR_ENCRYPT, IMB_ORDER_CIPHER_HASH); }
  void open(std::span<AeadJob> jobs) override { run(jobs, IMB_DIR_DECRYPT, IMB_ORDER_HASH_CIPHER); }

 private:
  /// As many jobs as can be under way; the library's ring holds more.
  static constexpr size_t kBatch = 64;

  void run(std::span<AeadJob> jobs, IMB_CIPHER_DIRECTION direction, IMB_CHAIN_ORDER order) {
    for (size_t first = 0; first < jobs.size(); first += kBatch)
      run_batch(jobs.subspan(first, std::min(kBatch, jobs.size() - first)), direction, order);
  }

  void run_batch(std::span<AeadJob> jobs, IMB_CIPHER_DIRECTION direction, IMB_CHAIN_ORDER order) {
    const bool sealing = direction == IMB_DIR_ENCRYPT;
    for (size_t i = 0; i < jobs.size(); i++) {
      AeadJob& job = jobs[i];
      job.ok = false;
      store<uint32_t>(nonces_[i].data(), 0);
      store(nonces_[i].data() + 4, job.counter);
      IMB_JOB* slot = IMB_GET_NEXT_JOB(manager_.get());
      slot->cipher_mode = IMB_CIPHER_CHACHA20_POLY1305;
      slot->hash_alg = IMB_AUTH_CHACHA20_POLY1305;
      slot->cipher_direction = direction;
      slot->chain_order = order;
      slot->enc_keys = job.key->data();
      slot->dec_keys = job.key->data();
      slot->key_len_in_bytes = job.key->size();
      slot->src = job.text;
      slot->dst = job.text;
      slot->cipher_start_src_offset_in_bytes = 0;
      slot->msg_len_to_cipher_in_bytes = job.size;
      slot->hash_start_src_offset_in_bytes = 0;
      slot->msg_len_to_hash_in_bytes = job.size;
      slot->iv = nonces_[i].data();
      slot->iv_len_in_bytes = nonces_[i].size();
      slot->u.CHACHA20_POLY1305.aad = nullptr;
      slot->u.CHACHA20_POLY1305.aad_len_in_bytes = 0;
      // A tag to be checked is computed beside the one received.
      slot->auth_tag_output = sealing ? job.text + job.size : tags_[i].data();
      slot->auth_tag_output_len_in_bytes = kAeadTagSize;
      slot->user_data = &job;
      slot->user_data2 = tags_[i].data();
      for (IMB_JOB* done = IMB_SUBMIT_JOB_NOCHECK(manager_.get()); done != nullptr;
           done = IMB_GET_COMPLETED_JOB(manager_.get()))
        finish(*done, sealing);
    }
    for (IMB_JOB* done = IMB_FLUSH_JOB(manager_.get()); done != nullptr; done = IMB_FLUSH_JOB(manager_.get()))
      finish(*done, sealing);
  }

  static void finish(const IMB_JOB& done, bool sealing) {
    auto& job = *static_cast<AeadJob*>(done.user_data);
    job.ok = done.status == IMB_STATUS_COMPLETED &&
             (sealing || sodium_memcmp(done.user_data2, job.text + job.size, kAeadTagSize) == 0);
  }

  Manager manager_;
  std::array<std::array<uint8_t, 12>, kBatch> nonces_{};
  std::array<std::array<uint8_t, kAeadTagSize>, kBatch> tags_{};
};

}  // namespace

std::unique_ptr<TransportAead> make_ipsec_mb_aead(std::string& reason) {
  const Library& l = library();
  if (l.allocate == nullptr || l.release == nullptr || l.initialise == nullptr) {
    reason = "libIPSec_MB.so.1 is not installed";
    return nullptr;
  }
  Manager manager(l.allocate(0));
  IMB_ARCH arch = IMB_ARCH_NONE;
  if (manager != nullptr) l.initialise(manager.get(), &arch);
  // Below AVX2 its code is no faster than OpenSSL's.
  if (manager == nullptr || arch < IMB_ARCH_AVX2) {
    reason = "the CPU has no AVX2";
    return nullptr;
  }
  reason = arch == IMB_ARCH_AVX512 ? "AVX-512" : "AVX2";
  return std::make_unique<IpsecMbAead>(std::move(manager));
}

}  // namespace omerta::crypto

#else

namespace omerta::crypto {

std::unique_ptr<TransportAead> make_ipsec_mb_aead(std::string& reason) {
  reason = "built without intel-ipsec-mb.h";
  return nullptr;
}

}  // namespace omerta::crypto

#endif
