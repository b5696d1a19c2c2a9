// SPDX-License-Identifier: Apache-2.0
// All peers and sessions of a node: handshakes, timers, cryptokey routing, index look-up.
// Sans-IO: time, randomness and the wall-clock timestamp are given to it, messages and events go to
// a SessionOutput that the caller hands in (each thread its own).
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "common/qsbr.h"
#include "ratelimit/prefix_buckets.h"
#include "ratelimit/token_bucket.h"
#include "session/peer.h"

namespace omerta::session {

/// What became of a message that was not accepted, or of one that was.
enum class Outcome : uint8_t {
  accepted,
  bad_mac1,
  cookie_sent,
  over_rate,
  unknown_peer,
  unknown_index,
  bad_handshake,
  replayed_initiation,
  crossed,  ///< both sides initiated at once; ours goes on
};

/// What the session table asks of the thread that called it.
class SessionOutput {
 public:
  virtual ~SessionOutput() = default;
  /// One WireGuard message, to be wrapped in a frame when the endpoint is a leg. traffic_class: DSCP and
  /// ECN for the outer header.
  virtual void send(const Endpoint& to, Bytes message, uint8_t traffic_class) = 0;
  /// Padding must not make a packet larger than this.
  virtual size_t inner_mtu() const { return SIZE_MAX; }
  virtual void session_established(Peer& peer) = 0;
  virtual void endpoint_changed(Peer& peer) = 0;
  virtual void path_needed(Peer& peer) = 0;
  virtual void session_lost(Peer& peer) = 0;
};

struct PeerSettings {
  Key32 public_key{};
  std::optional<Key32> preshared_key;
  std::vector<Prefix> allowed_ips;
  std::optional<Endpoint> endpoint;
  Nanoseconds persistent_keepalive = 0;
  /// A changed preshared key counts from the next handshake on; otherwise the session ends with the old.
  bool keep_session_on_new_psk = false;
};

struct SessionEnvironment {
  RandomBytes random;
  std::function<Timestamp()> timestamp;  ///< TAI64N, whitened
};

class SessionTable {
 public:
  SessionTable(const Key32& private_key, size_t max_peers, size_t workers, SessionEnvironment environment);
  ~SessionTable();

  const LocalIdentity& local() const { return local_; }
  Qsbr& qsbr() { return qsbr_; }

  // --- configuration (any thread; takes the mutex) ------------------------------------------------
  /// Adds or updates; false, and nothing changed, when it would exceed max_peers.
  bool set_peers(const std::vector<PeerSettings>& peers, Nanoseconds now, SessionOutput& out);
  void remove_peers(const std::vector<Key32>& keys);
  /// Starts a handshake now, even if one was started less than REKEY_TIMEOUT ago.
  bool start_handshake(const Key32& peer, Nanoseconds now, SessionOutput& out);
  /// When the last handshake of a peer completed, 0 = never; nullopt: no such peer.
  std::optional<Nanoseconds> last_handshake(const Key32& peer);
  /// Sends a packet inside the session, or stages it until there is one. false: no such peer.
  bool send_inside(const Key32& peer, Bytes packet, Nanoseconds now, SessionOutput& out);
  /// Calls visit(peer) for each peer under the mutex.
  void for_each(const std::function<void(Peer&)>& visit);
  size_t size();
  /// Frees what no worker can hold any more.
  void reclaim();

  // --- slow path (workers; takes the mutex) -------------------------------------------------------
  Outcome handle_initiation(const Initiation& message, const Endpoint& from, Nanoseconds now,
                            SessionOutput& out);
  Outcome handle_response(const Response& message, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  Outcome handle_cookie_reply(const CookieReply& message, Nanoseconds now);
  /// To be called every 100 ms or so by one thread.
  void handle_timers(Nanoseconds now, SessionOutput& out);
  /// Keeps a packet for a peer without a usable key and sees to it that there will be one.
  /// Returns how many older ones were dropped for it (0 or 1).
  size_t stage(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out);

  // --- packet path (workers between Qsbr::quiescent calls; no lock) -------------------------------
  const AllowedIps& routes() const { return *routes_.load(std::memory_order_acquire); }
  Keypair* find(uint32_t local_index) const {
    Keypair* keypair = slots_[local_index & slot_mask_].keypair.load(std::memory_order_acquire);
    return keypair != nullptr && keypair->local_index == local_index ? keypair : nullptr;
  }
  /// After data was sent with `keypair`: timers, and renewal when the key is old.
  void data_sent(Keypair& keypair, size_t bytes, Nanoseconds now, SessionOutput& out);
  /// After packets from one place opened and passed the replay window: confirms the key, moves the
  /// endpoint, renews. The caller adds their bytes to Peer::rx_bytes.
  void authenticated(Keypair& keypair, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  /// After an authenticated packet turned out to carry data.
  static void data_received(Peer& peer, Nanoseconds now) {
    if (peer.keepalive_owed_since.load(std::memory_order_relaxed) == 0)
      peer.keepalive_owed_since.store(now, std::memory_order_relaxed);
  }

  uint64_t initiations_sent() const { return initiations_sent_.load(std::memory_order_relaxed); }
  uint64_t keepalives_sent() const { return keepalives_sent_.load(std::memory_order_relaxed); }

 private:
  struct Slot {
    std::atomic<Keypair*> keypair{nullptr};
    Peer* handshake = nullptr;  // under the mutex
    uint32_t handshake_index = 0;
  };
  struct KeyHash {
    size_t operator()(const Key32& key) const { return load<size_t>(key.data()); }
  };
  struct PrefixHash {
    size_t operator()(const Prefix& prefix) const {
      const size_t mixed =
          load<size_t>(prefix.address) * 0x9E3779B97F4A7C15u ^ load<size_t>(prefix.address + 8);
      return mixed * 0x9E3779B97F4A7C15u + prefix.length * 256u + prefix.family;
    }
  };

  Peer* find_peer(const Key32& key);
  Outcome check_macs(Bytes before1, const Mac16& mac1, Bytes before2, const Mac16& mac2, uint32_t sender,
                     const Endpoint& from, Nanoseconds now, SessionOutput& out);
  void add_macs(Peer& peer, uint8_t* message, size_t size, Nanoseconds now);
  uint32_t allocate_index(Peer& peer);
  void release_handshake_index(Peer& peer);
  void begin_session(Peer& peer, bool initiator, Nanoseconds now);
  void discard(Keypair* keypair);
  void drop_keys(Peer& peer);
  void assign_prefixes(Peer& peer, const std::vector<Prefix>& prefixes);
  void rebuild_routes();
  void initiate(Peer& peer, Nanoseconds now, SessionOutput& out, bool retry);
  void want_handshake(Peer& peer, Nanoseconds now, SessionOutput& out);
  bool send_packet(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out);
  void flush_staged(Peer& peer, Nanoseconds now, SessionOutput& out);
  void check_timers(Peer& peer, Nanoseconds now, SessionOutput& out);
  Nanoseconds random_jitter();

  LocalIdentity local_;
  size_t max_peers_;
  SessionEnvironment environment_;
  Qsbr qsbr_;
  std::mutex mutex_;
  std::unordered_map<Key32, std::unique_ptr<Peer>, KeyHash> peers_;
  std::unordered_map<Prefix, Peer*, PrefixHash> prefix_owner_;
  std::atomic<const AllowedIps*> routes_;
  std::unique_ptr<Slot[]> slots_;
  uint32_t slot_mask_;
  uint64_t next_keypair_id_ = 1;
  CookieJar cookies_;
  TokenBucket handshake_budget_;
  PrefixBuckets source_budget_;
  Nanoseconds under_load_until_ = 0;
  std::atomic<uint64_t> initiations_sent_{0};
  std::atomic<uint64_t> keepalives_sent_{0};
};

}  // namespace omerta::session
