// SPDX-License-Identifier: Apache-2.0
// Quiescent-state-based reclamation: objects that readers may still hold are freed only after every
// reader has been seen outside its read section. Readers pay one store per loop iteration, nothing
// per packet. (Hart, McKenney, Brown, Walpole: "Performance of memory reclamation for lockless
// synchronization", 2007, section 3.1.)
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

namespace omerta {

class Qsbr {
 public:
  static constexpr uint64_t kOffline = UINT64_MAX;

  explicit Qsbr(size_t readers) : readers_(readers) {
    for (auto& reader : readers_) reader.epoch.store(kOffline, std::memory_order_relaxed);
  }

  /// Reader: holds nothing from before this call; may hold things from now on.
  void quiescent(size_t reader) {
    readers_[reader].epoch.store(epoch_.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
  }
  /// Reader: holds nothing and will not, until quiescent() is called again (it sleeps).
  void offline(size_t reader) { readers_[reader].epoch.store(kOffline, std::memory_order_seq_cst); }

  /// Writer (one at a time): `free` runs once no reader can hold what it frees.
  void retire(std::function<void()> free) {
    retired_.push_back({epoch_.fetch_add(1, std::memory_order_seq_cst) + 1, std::move(free)});
  }
  /// Writer: frees what may be freed.
  void reclaim() {
    if (retired_.empty()) return;
    uint64_t oldest = kOffline;
    for (auto& reader : readers_) oldest = std::min(oldest, reader.epoch.load(std::memory_order_seq_cst));
    size_t kept = 0;
    for (auto& entry : retired_) {
      if (entry.epoch <= oldest)
        entry.free();
      else
        retired_[kept++] = std::move(entry);
    }
    retired_.resize(kept);
  }
  ~Qsbr() {
    for (auto& entry : retired_) entry.free();
  }

 private:
  struct alignas(64) Reader {
    std::atomic<uint64_t> epoch{kOffline};
  };
  struct Retired {
    uint64_t epoch = 0;
    std::function<void()> free;
  };
  std::atomic<uint64_t> epoch_{1};
  std::vector<Reader> readers_;
  std::vector<Retired> retired_;
};

}  // namespace omerta
