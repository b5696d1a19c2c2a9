// SPDX-License-Identifier: Apache-2.0
// The way of a transport packet from UDP to the inside: its session is looked up, it waits in a batch, the
// batch is opened at once, and runs of one session from one place are delivered.
//
//   source  where a message or leg is from, kept until finish
//   open    index → expiry → batch
//   finish  AEAD → replay → endpoint → keepalive? → length, padding → source → delivered
//           (WIREGUARD checklist 10)
#pragma once

#include <memory>

#include "crypto/aead.h"
#include "engine/accelerator_watch.h"
#include "engine/sender.h"
#include "inner/coalescing.h"

namespace omerta::engine {

class TransportOpener {
 public:
  /// coalescing: where inner packets go; nullptr where there is no inside. Everything has to outlive it.
  TransportOpener(Sender& out, crypto::Aead& aead, AcceleratorWatch& watch, inner::Coalescing* coalescing);

  /// Before each receive.
  void begin(Nanoseconds now) { now_ = now; }
  /// The place a message is from; valid until the next call of source, and for `open` until finish. A burst
  /// of one message or leg has one.
  const session::Endpoint& source(const udp::Message& message) {
    if (source_message_ != &message) {
      session::Endpoint& from = new_source();
      from.remote = message.from;
      if (!shared_.proven_remotes.avoids(message.local)) from.local = message.local;
      source_message_ = &message;
    }
    return sources_[sources_count_ - 1];
  }
  /// The place a frame on a `deliver` leg is from; nullptr when the leg is gone.
  const session::Endpoint* source(uint32_t leg_id);

  /// Takes a transport packet that came in `message` from the place last asked for. It and the message must
  /// live until finish. false: no session here has its index.
  bool open(uint8_t* data, size_t size, const session::Endpoint& from, const udp::Message& message) {
    session::Keypair* keypair = shared_.sessions->find(load<uint32_t>(data + 4));
    if (keypair == nullptr) return false;
    if (keypair->expired(now_)) {
      counters_.add(Counter::drop_key_expired);
      return true;
    }
    const size_t place = count_++;
    openings_[place] = {keypair, &from, &message};
    jobs_[place] = {&keypair->receive_key, load<uint64_t>(data + 8), data + session::kTransportHeaderSize,
                    size - session::kTransportOverhead, false};
    if (place + 1 == kJobs) finish();
    return true;
  }
  /// Opens and delivers what waits. Inner packets wait in the coalescing from then on.
  void finish();
  /// Forgets what waits.
  void clear();

 private:
  static constexpr size_t kJobs = 64;

  /// A transport packet between its look-up and its delivery.
  struct Opening {
    session::Keypair* keypair;
    const session::Endpoint* from;  ///< in sources_
    const udp::Message* message;
  };
  /// Opened packets of one session from one place, one after the other.
  struct Run {
    session::Keypair* keypair = nullptr;
    const session::Endpoint* from = nullptr;
    size_t bytes = 0;
    size_t packets = 0;
    const session::PathSet* paths = nullptr;       ///< of the peer, if it has a set
    const session::PathSet::Path* path = nullptr;  ///< of the set: what they came by
    bool data = false;                             ///< of a peer with a set: some of them were data
  };

  session::Endpoint& new_source();
  void forget_sources() {
    sources_count_ = 0;
    source_message_ = nullptr;
    source_leg_ = 0;
  }
  void opened(const Opening& opening, const crypto::AeadJob& job);
  void path_frame(const Opening& opening, Bytes payload);
  [[gnu::noinline]] bool engine_frame(session::Keypair& keypair, Bytes payload);
  bool may_pass(session::Transit transit, const uint8_t* packet, const inner::IpView& ip);
  void begin_run(const Opening& opening);
  void begin_path_data(const Opening& opening);
  void end_run();

  Sender& out_;
  Shared& shared_;
  CounterRow& counters_;
  crypto::Aead& aead_;
  AcceleratorWatch& watch_;
  inner::Coalescing* coalescing_;
  Nanoseconds now_ = 0;
  Run run_;
  size_t count_ = 0;
  std::unique_ptr<Opening[]> openings_;
  std::unique_ptr<crypto::AeadJob[]> jobs_;
  /// Where packets waiting to be opened came from.
  std::unique_ptr<session::Endpoint[]> sources_;
  size_t sources_count_ = 0;
  // What the last of them was made for: a message, or a leg (0: none).
  const udp::Message* source_message_ = nullptr;
  uint32_t source_leg_ = 0;
};

}  // namespace omerta::engine
