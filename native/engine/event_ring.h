// SPDX-License-Identifier: Apache-2.0
// Events for the control plane: a ring of records in memory that TypeScript reads in place. Producers
// (workers; events are rare) exclude each other, the one consumer is the JavaScript thread.
//
//   0   u32 head   bytes ever written, modulo 2^32
//   4   u32 tail   bytes ever consumed
//   64  records: u32 size (all of it, a multiple of 8) | u16 type | u16 zero | payload
//       A record never wraps: type 0 fills the end of the memory.
//
// What others send, frames, control messages and answers to probes, takes three quarters at most: the rest is
// for what the engine itself has to tell, above all of sessions and endpoints.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>

#include "common/bytes.h"

namespace omerta::engine {

enum class EventType : uint16_t {
  padding = 0,
  frame = 1,                  ///< ip 16 | port u16 | zero u16 | leg u32 | length u32 | frame
  control = 2,                ///< session key 32 | length u32 | payload
  session = 3,                ///< session key 32 | ip 16 | port u16 | zero u16 | leg u32
  endpoint = 4,               ///< as session
  path_needed = 5,            ///< session key 32
  session_lost = 6,           ///< session key 32
  interface_gone = 7,         ///< nothing
  interface_up = 8,           ///< nothing
  interface_down = 9,         ///< nothing
  accelerator_demoted = 10,   ///< length u32 | name, newline, name of a Fault or `lost-to-peer`
  routing_loop = 11,          ///< ip 16 | port u16: where an own datagram was on its way to
  accelerator_restored = 12,  ///< length u32 | name
  addresses_changed = 13,     ///< nothing
  probe_answer = 14,  ///< session key 32 | ends 48 | token 8 | rtt i64 | observed ip 16 | port u16 | size u16
  probe_from = 15,    ///< session key 32 | ends 48
  path_arrival = 16,  ///< session key 32 | ends 48 | path u32, 0: none
  path_silent = 17,   ///< session key 32 | path u32
  path_heard = 18,    ///< session key 32 | path u32
  path_report = 19,   ///< session key 32 | path u32 | zero u32 | sent u64 | received u64
};

class EventRing {
 public:
  static constexpr size_t kHeader = 64;
  static constexpr size_t kBytes = size_t{1} << 20;
  static constexpr size_t kBytesOfOthers = kBytes / 4 * 3;

  EventRing() : memory_(new (std::align_val_t{64}) uint8_t[kHeader + kBytes]()) {}
  ~EventRing() { ::operator delete[](memory_, std::align_val_t{64}); }
  EventRing(const EventRing&) = delete;
  EventRing& operator=(const EventRing&) = delete;

  uint8_t* data() { return memory_; }
  size_t size() const { return kHeader + kBytes; }
  /// Called (from any thread) when there is something to read and the reader was not told yet.
  void on_wake(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
    if (wake_pending_.load(std::memory_order_seq_cst)) wake_();  // something was written before
  }
  /// Reader: about to drain; a record written after this wakes it again.
  void draining() { wake_pending_.store(false, std::memory_order_seq_cst); }

  /// Writes a record; false when the reader is too far behind, and nothing is kept then.
  bool write(EventType type, std::initializer_list<Bytes> parts) {
    size_t size = 8;
    for (Bytes part : parts) size += part.size();
    size = (size + 7) & ~size_t{7};
    bool wake = false;
    {
      const std::lock_guard lock(mutex_);
      uint32_t head = word(0).load(std::memory_order_relaxed);
      const uint32_t used = head - word(4).load(std::memory_order_acquire);
      const size_t offset = head % kBytes;
      const size_t to_end = kBytes - offset;
      const size_t padding = to_end < size ? to_end : 0;
      const bool of_others =
          type == EventType::frame || type == EventType::control || type == EventType::probe_answer;
      if (used + padding + size > (of_others ? kBytesOfOthers : kBytes)) return false;
      if (padding != 0) {
        header(offset, padding, EventType::padding);
        head += static_cast<uint32_t>(padding);
      }
      uint8_t* at = header(head % kBytes, size, type);
      for (Bytes part : parts) {
        if (!part.empty()) std::memcpy(at, part.data(), part.size());
        at += part.size();
      }
      word(0).store(head + static_cast<uint32_t>(size), std::memory_order_release);
      wake = !wake_pending_.exchange(true, std::memory_order_seq_cst) && wake_;
    }
    if (wake) wake_();
    return true;
  }

 private:
  std::atomic_ref<uint32_t> word(size_t offset) {
    return std::atomic_ref<uint32_t>(*reinterpret_cast<uint32_t*>(memory_ + offset));
  }
  uint8_t* header(size_t offset, size_t size, EventType type) {
    uint8_t* at = memory_ + kHeader + offset;
    store(at, static_cast<uint32_t>(size));
    store(at + 4, static_cast<uint16_t>(type));
    store<uint16_t>(at + 6, 0);
    return at + 8;
  }
  uint8_t* memory_;
  std::mutex mutex_;
  std::atomic<bool> wake_pending_{false};
  std::function<void()> wake_;
};

}  // namespace omerta::engine
