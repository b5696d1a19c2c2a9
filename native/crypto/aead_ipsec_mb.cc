// SPDX-License-Identifier: Apache-2.0
// intel-ipsec-mb: ChaCha20-Poly1305 through its job interface, AES-256-GCM through its direct one (each
// the faster of the two on AVX-512). The library is opened at run time: an addon built here runs on
// machines without it, and a prebuilt one needs nothing installed.
#include "crypto/aead.h"

#if defined(OMERTA_HAVE_IPSEC_MB)

#include <dlfcn.h>
#include <intel-ipsec-mb.h>
#include <sodium.h>

#include <algorithm>

namespace omerta::crypto {

struct GcmSchedule {
  gcm_key_data data;
};

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

/// nullptr, and `why` says why, when it would be missing or slow; else `why.detail` names the instructions.
Manager make_manager(Reason& why) {
  const Library& l = library();
  if (l.allocate == nullptr || l.release == nullptr || l.initialise == nullptr) {
    why = {"not-installed", "libIPSec_MB.so.1"};
    return nullptr;
  }
  Manager manager(l.allocate(0));
  IMB_ARCH arch = IMB_ARCH_NONE;
  if (manager != nullptr) l.initialise(manager.get(), &arch);
  // Below AVX2 its code is no faster than OpenSSL's.
  if (manager == nullptr || arch < IMB_ARCH_AVX2) {
    why = {"needs-cpu", "AVX2"};
    return nullptr;
  }
  why = {{}, arch == IMB_ARCH_AVX512 ? "AVX-512" : "AVX2"};
  return manager;
}

class IpsecMbChacha final : public TransportAead {
 public:
  explicit IpsecMbChacha(Manager manager) : manager_(std::move(manager)) {}

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
      slot->enc_keys = job.key->bytes.data();
      slot->dec_keys = job.key->bytes.data();
      slot->key_len_in_bytes = job.key->bytes.size();
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

class IpsecMbGcm final : public TransportAead {
 public:
  explicit IpsecMbGcm(Manager manager) : manager_(std::move(manager)) {}
  ~IpsecMbGcm() override { sodium_memzero(&context_, sizeof context_); }

  void seal(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      store(nonce_.data() + 4, job.counter);
      IMB_AES256_GCM_ENC(manager_.get(), schedule(job), &context_, job.text, job.text, job.size,
                         nonce_.data(), nullptr, 0, job.text + job.size, kAeadTagSize);
      job.ok = true;
    }
  }

  void open(std::span<AeadJob> jobs) override {
    for (AeadJob& job : jobs) {
      std::array<uint8_t, kAeadTagSize> tag;
      store(nonce_.data() + 4, job.counter);
      IMB_AES256_GCM_DEC(manager_.get(), schedule(job), &context_, job.text, job.text, job.size,
                         nonce_.data(), nullptr, 0, tag.data(), tag.size());
      job.ok = sodium_memcmp(tag.data(), job.text + job.size, tag.size()) == 0;
    }
  }

 private:
  static const gcm_key_data* schedule(const AeadJob& job) { return &job.key->gcm_schedule->data; }

  Manager manager_;
  gcm_context_data context_{};
  std::array<uint8_t, 12> nonce_{};
};

}  // namespace

void FreeGcmSchedule::operator()(GcmSchedule* schedule) const {
  sodium_memzero(schedule, sizeof *schedule);
  delete schedule;
}

std::unique_ptr<GcmSchedule, FreeGcmSchedule> expand_gcm_key(const Key32& key) {
  // Its functions for one message keep nothing in the manager, so that all threads may share it.
  static const Manager manager = [] {
    Reason why;
    return make_manager(why);
  }();
  if (manager == nullptr) return nullptr;
  std::unique_ptr<GcmSchedule, FreeGcmSchedule> schedule(new GcmSchedule);
  IMB_AES256_GCM_PRE(manager.get(), key.data(), &schedule->data);
  return schedule;
}

std::unique_ptr<TransportAead> make_ipsec_mb_aead(Suite suite, Reason& why) {
  Manager manager = make_manager(why);
  if (manager == nullptr) return nullptr;
  if (suite == Suite::chacha20_poly1305) return std::make_unique<IpsecMbChacha>(std::move(manager));
  if ((manager->features & IMB_FEATURE_VAES) != 0) why.detail += " and VAES";
  return std::make_unique<IpsecMbGcm>(std::move(manager));
}

}  // namespace omerta::crypto

#else

namespace omerta::crypto {

void FreeGcmSchedule::operator()(GcmSchedule*) const {}

std::unique_ptr<GcmSchedule, FreeGcmSchedule> expand_gcm_key(const Key32&) { return nullptr; }

std::unique_ptr<TransportAead> make_ipsec_mb_aead(Suite, Reason& why) {
  why = {"not-built-in", "intel-ipsec-mb"};
  return nullptr;
}

}  // namespace omerta::crypto

#endif
