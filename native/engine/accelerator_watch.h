// SPDX-License-Identifier: Apache-2.0
// A worker's part in finding out what spoils packets: it looks at its own socket, interface and AEAD, demotes
// what fails, and follows what other workers found.
#pragma once

#include "crypto/aead.h"
#include "engine/output.h"
#include "inner/coalescing.h"

namespace omerta::engine {

class AcceleratorWatch {
 public:
  /// coalescing, port: nullptr where there is no inside. Everything has to outlive it.
  AcceleratorWatch(EventOutput& out, udp::UdpSocket& socket, crypto::Aead& aead,
                   inner::Coalescing* coalescing, inner::Port* port)
      : out_(out),
        shared_(out.shared()),
        socket_(socket),
        aead_(aead),
        ipsec_mb_(shared_.aead.ipsec_mb()),
        coalescing_(coalescing),
        port_(port) {}

  /// Before each turn, so that a worker that has slept seals and opens nothing by what others found broken.
  void check_aead(Nanoseconds now);
  /// After each turn: what this worker's socket and interface showed counts for all, and what others found
  /// for this one.
  void check(Nanoseconds now);
  /// For every worker; for good, but for what `restore` brings back.
  void demote(Accelerator accelerator, Fault fault);
  /// For every worker: another try of what was demoted, after a pause.
  void restore(Accelerator accelerator, Fault fault);
  /// Towards one peer only: segmented messages (UDP GSO) are lost there.
  void demoted_for_peer();
  /// The inside handed over a packet that its header does not fit.
  void malformed(const inner::VirtioNetHeader& header);
  /// What became of received datagrams of known senders: authentic ones, and one that was not.
  void received_good(bool coalesced, uint64_t datagrams = 1) {
    (coalesced ? good_together_ : good_alone_) += datagrams;
  }
  void received_bad(bool coalesced, uint64_t witness) { shared_.gro_watch.bad(coalesced, witness); }
  /// The inside is gone.
  void forget_port() { port_ = nullptr; }

 private:
  void check_gro(Nanoseconds now);
  void set_gro(bool on);

  EventOutput& out_;
  Shared& shared_;
  udp::UdpSocket& socket_;
  crypto::Aead& aead_;
  bool ipsec_mb_;
  Nanoseconds next_aead_check_ = 0;
  uint64_t good_together_ = 0;  ///< not yet told to the watch that workers share
  uint64_t good_alone_ = 0;
  inner::Coalescing* coalescing_;
  inner::Port* port_;
  size_t wrong_super_packets_ = 0;
};

}  // namespace omerta::engine
