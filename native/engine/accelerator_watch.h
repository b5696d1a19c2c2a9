// SPDX-License-Identifier: Apache-2.0
// A worker's part in finding out what spoils packets: it looks at its own socket, interface and AEAD, demotes
// what fails, and follows what other workers found.
#pragma once

#include "crypto/aead.h"
#include "engine/output.h"
#include "inner/coalescing.h"
#include "udp/gro_watch.h"

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

  /// After each turn: what this worker's socket and interface showed counts for all, and what others found
  /// for this one.
  void check(Nanoseconds now);
  /// For every worker, for good.
  void demote(Offload offload, Fault fault);
  /// The inside handed over a packet that its header does not fit.
  void malformed(const inner::VirtioNetHeader& header);
  /// Is told what became of received datagrams.
  udp::GroWatch& gro() { return gro_; }
  /// The inside is gone.
  void forget_port() { port_ = nullptr; }

 private:
  void check_aead(Nanoseconds now);
  void set_gro(bool on);

  EventOutput& out_;
  Shared& shared_;
  udp::UdpSocket& socket_;
  crypto::Aead& aead_;
  bool ipsec_mb_;
  Nanoseconds next_aead_check_ = 0;
  udp::GroWatch gro_;
  inner::Coalescing* coalescing_;
  inner::Port* port_;
  size_t wrong_super_packets_ = 0;
};

}  // namespace omerta::engine
