// SPDX-License-Identifier: Apache-2.0
// Stock WireGuard clients relayed as they are (omerta/wireguard_relay.h, docs/protocol.md).
//
//   wireguard_table.cc       bindings, and sessions that stand
//   wireguard_handshakes.cc  what comes before a session stands
//   wireguard_handover.cc    what the kernel path has and is told, sessions of an earlier daemon
//   wireguard_routes.cc      the look-up by receiver index, without a lock
//
//   initiation   C ─► relay   MAC1 tells which server it is for; one from an address that has not proven
//                             itself is answered with a cookie, and nothing is kept
//   initiation   C ─► relay   MAC2 proves the address ─► S           half-open: who asked, 5 s at most
//   response     S ─► relay   receiver index tells for whom ─► C     its sender index is remembered
//   transport    C ─► relay   the first one, from the very address the initiation came from: two routes,
//                             180 s (the life of the keys)
//   transport    both ways    route by receiver index and source, no lock
//
// Only the relay's own cookie proves an address. An index that the server chose does not: a server and
// somebody who forges a client's address would make the relay send to a host that never asked. The cookie is
// given by the responder's own means (whitepaper 5.3): anybody who knows the responder's public key can make
// a cookie reply. It is smaller than what it answers. A proof holds for one server and as long as keys live,
// so that a client which renews its session in time is not asked each time; one that is asked sends its next
// initiation 5 s later, while its former keys still last.
//
// What a stranger can make of it is bounded: MAC1 checks by a budget of each prefix and one of all, which
// neither known addresses nor those with a valid MAC2 share; half-open entries by a table of fixed size and a
// cap per prefix and site. Until a session stands, no more goes to the client than came from it.
#pragma once

#include <omerta/door.h>
#include <omerta/wireguard_relay.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "common/bytes.h"
#include "common/seqlock.h"
#include "ratelimit/prefix_buckets.h"
#include "ratelimit/token_bucket.h"
#include "relay/wireguard_routes.h"
#include "session/cookie.h"
#include "session/endpoint.h"

namespace omerta::relay {

class WireguardTable {
 public:
  static constexpr size_t kHalfOpen = 1024;
  static constexpr size_t kHalfOpenPerPrefix = 64;  ///< an IPv4 address, an IPv6 /64
  static constexpr size_t kHalfOpenPerSite = 256;   ///< an IPv4 /24, an IPv6 /48
  static constexpr Nanoseconds kHalfOpenTime = 5 * kSecond;
  /// Time for a server to register again with a relay that was restarted.
  static constexpr Nanoseconds kAdoptionTime = 60 * kSecond;

  enum class Verdict : uint8_t {
    not_ours,         ///< no binding, half-open handshake or session takes it
    forward,          ///< to `to`, as it is
    cookie,           ///< a cookie reply goes back
    repeated,         ///< a copy of an initiation under way
    over_rate,        ///< too many handshakes of strangers, or of this prefix
    half_open_full,   ///< of this prefix or site, or in all
    sessions_full,    ///< of this server, or in all
    too_much,         ///< more than the initiator sent, and no session stands yet
    self,             ///< a server asking for itself
    index_taken,      ///< somebody else has the receiver index: own sessions, or another client
    refused_by_limit  ///< `limit` says by which
  };

  struct Result {
    Verdict verdict = Verdict::not_ours;
    omerta_drop_reason limit = OMERTA_DROP_NONE;
    session::Endpoint to{};
  };

  struct Usage {
    uint32_t sessions;
    uint64_t packets;
    uint64_t bytes;
  };

  /// `sessions` at most; 0: the table takes no binding.
  WireguardTable(size_t sessions, session::RandomBytes random, WireguardRoutes::Secret secret);

  bool enabled() const { return routes_ != nullptr; }
  /// Whether there is anything to relay: one load, for the path of datagrams nobody else took.
  bool active() const { return bound_.load(std::memory_order_relaxed) != 0; }

  // Control thread.

  /// Sets or replaces one; the keys but the public one are derived here. Sessions of another server end,
  /// those of the same one follow it to its address. What `accounts` were charged so far is settled when
  /// others take over. @throws std::out_of_range
  void bind(size_t number, const omerta_wireguard_binding& binding, Nanoseconds now, Accounts& accounts);
  void unbind(size_t number, Accounts& accounts);
  /// Sessions that stand, and what was charged for a binding since its accounts were the present ones.
  Usage usage(size_t number) const;
  /// What was charged and is not settled, as legs.
  void for_each_charge(const std::function<void(const omerta_leg&)>& visit) const;

  // Control thread, with a kernel path in front: it is given the routes, and forwards by itself what they
  // take.

  /// Another value after every change of routes().
  uint64_t changes() const { return changes_.load(std::memory_order_acquire); }
  /// The routes the kernel is to have; of those it was found with, what may still be claimed (key_epoch
  /// OMERTA_WIREGUARD_UNBOUND, nobody's accounts).
  std::vector<omerta_leg> routes(Nanoseconds now) const;
  /// Routes an earlier daemon left in the kernel. Their sessions go on when their server, known by its
  /// key, is bound again within kAdoptionTime.
  void adopt(std::span<const omerta_leg> routes, Nanoseconds now);
  /// Counts what the kernel forwarded by routes that ended: on their binding, or settles it when the
  /// binding is gone or has other accounts by now.
  void add_carried(std::span<const omerta_leg> ended, Accounts& accounts);
  /// From now on words[index % OMERTA_EXPECTED_INDICES] counts the indices somebody waits for.
  void mirror_expected(uint64_t* words);
  /// From now on whether anything is bound, and which clients have proven themselves, is told there.
  void tell(omerta_door* door);

  // Workers.

  /// A handshake message or cookie reply of the right size that this node's own sessions did not take.
  /// `own(index)`: whether one of them has that receiver index. `reply`: for Verdict::cookie.
  template <class OwnIndex>
  Result handshake(Bytes message, const session::Endpoint& from, Nanoseconds now, const OwnIndex& own,
                   session::CookieReply& reply) {
    if (!active() || from.relayed()) return {};
    if (message.size() == sizeof(session::Initiation)) {
      const auto initiation = load<session::Initiation>(message.data());
      return own(initiation.sender) ? Result{Verdict::index_taken} : ask(initiation, from, now, reply);
    }
    if (message.size() == sizeof(session::Response)) {
      const auto response = load<session::Response>(message.data());
      return own(response.sender) ? Result{Verdict::index_taken} : answer(response, from, now);
    }
    if (message.size() == sizeof(session::CookieReply))
      return cookie_reply(load<session::CookieReply>(message.data()), from, now);
    return {};
  }
  /// A transport message with a receiver index that is none of this node's sessions'.
  Result transport(uint32_t receiver_index, size_t size, const session::Endpoint& from, Nanoseconds now,
                   Accounts& accounts);
  /// Forgets what has run out, once a second; one worker calls it.
  void sweep(Nanoseconds now);

 private:
  static constexpr size_t kNone = SIZE_MAX;
  static constexpr size_t kAwaited = 4096;
  static constexpr size_t kKnownSlots = 4096;
  /// Addresses that have proven themselves; two that share a place ask for a cookie more often.
  static constexpr size_t kProofs = 16384;

  static bool same(const omerta_address& a, const omerta_address& b) {
    return omerta_same_address(a.ip, a.port, &b);
  }

  struct HalfOpen {
    bool used = false;
    bool answered = false;
    uint8_t binding = 0;
    uint32_t client_index = 0;
    uint32_t server_index = 0;
    uint32_t spent = 0;  ///< bytes sent towards the client
    session::Endpoint client;
    omerta_address server{};
    Nanoseconds expires = 0;
  };
  struct Session {
    bool used = false;
    uint8_t binding = 0;
    uint32_t client_index = 0;
    uint32_t server_index = 0;
    omerta_address client{};
    omerta_address server{};
    Nanoseconds expires = 0;
  };
  /// A session of an earlier daemon, by its routes.
  struct Orphan {
    omerta_leg to_server{};
    omerta_leg to_client{};
    Nanoseconds until = 0;
  };
  /// What sessions that ended had carried.
  struct Past {
    uint64_t packets = 0;
    uint64_t bytes = 0;
  };

  /// An address that answered a cookie, for one server.
  struct Proof {
    uint64_t of = 0;
    Nanoseconds until = 0;
  };

  size_t share() const;
  size_t sessions_of(size_t number) const;
  void end(Session& session);
  omerta_leg settled(size_t number) const;
  Verdict promote(uint32_t server_index, const omerta_address& client, Nanoseconds now);
  bool install(const Session& session, const omerta_wireguard_binding& binding,
               const session::Endpoint& client);
  // wireguard_handshakes.cc
  Result ask(const session::Initiation& message, const session::Endpoint& from, Nanoseconds now,
             session::CookieReply& reply);
  Result answer(const session::Response& message, const session::Endpoint& from, Nanoseconds now);
  Result cookie_reply(const session::CookieReply& message, const session::Endpoint& from, Nanoseconds now);
  Result towards_client(HalfOpen& entry, uint32_t size);
  size_t match(const session::Initiation& message) const;
  bool may_try(const session::Initiation& message, const omerta_address& source, Nanoseconds now);
  Proof& proof_of(const omerta_address& client, const omerta_wireguard_binding& binding, uint64_t& of);
  bool is_proven(const session::Initiation& message, const omerta_address& client,
                 const omerta_wireguard_binding& binding, Nanoseconds now);
  void await(uint32_t server_index, int by);
  void forget(HalfOpen& entry);
  // wireguard_handover.cc
  void expect(uint32_t index, int by);
  void tell_bound() const;
  void claim(size_t number, const omerta_wireguard_binding& binding, Nanoseconds now);

  session::RandomBytes random_;
  std::unique_ptr<WireguardRoutes> routes_;
  SeqLock<omerta_wireguard_binding> bindings_[OMERTA_WIREGUARD_BINDINGS];
  std::atomic<uint64_t> bound_{0};  ///< a bit for each number in use
  // Budgets of MAC1 checks.
  TokenBucket strangers_;
  PrefixBuckets newcomers_;       ///< initiations, before `strangers_`
  PrefixBuckets newcomer_sites_;  ///< likewise, of an IPv4 /24 or IPv6 /48
  PrefixBuckets known_budget_;
  std::unique_ptr<std::atomic<Nanoseconds>[]> known_;  ///< when a prefix last proved an address
  __u64 known_key_[2];
  /// How many responses under way have a sender index with these low bits: a filter before the lock.
  std::unique_ptr<std::atomic<uint16_t>[]> awaited_;

  Nanoseconds next_sweep_ = 0;
  std::atomic<bool> adopted_{false};  ///< there are orphans

  mutable std::mutex mutex_;  ///< all below
  session::CookieJar cookies_;
  std::vector<Proof> proofs_;
  std::vector<HalfOpen> half_open_;
  std::vector<Session> sessions_;
  std::vector<Orphan> orphans_;
  std::atomic<uint64_t> changes_{0};
  uint64_t* expected_ = nullptr;
  omerta_door* door_ = nullptr;
  Past past_[OMERTA_WIREGUARD_BINDINGS];
};

}  // namespace omerta::relay
