// SPDX-License-Identifier: Apache-2.0
// All peers and sessions of a node: handshakes, timers, cryptokey routing, index look-up.
// Sans-IO: time, randomness and the wall-clock timestamp are given to it, messages and events go to
// a SessionOutput that the caller hands in (each thread its own).
//
//   session_table.cc      the table, and packets that opened
//   configuration.cc      peers, the private key, the interface going down
//   handshakes.cc         initiations, responses, cookies, and the sessions that come of them
//   timers.cc             one row for each timer of a peer
//   sending.cc            what is sent inside, and waits until it can be
//   suite_negotiation.cc  the second pair of keys of a session
//   paths.cc              several ways to one peer: their sets, frames and timers
#pragma once

#include <memory>
#include <mutex>
#include <unordered_map>

#include "common/qsbr.h"
#include "crypto/aead.h"
#include "ratelimit/prefix_buckets.h"
#include "ratelimit/token_bucket.h"
#include "session/index_table.h"
#include "session/peer.h"

namespace omerta::session {

/// What became of a handshake message or cookie reply.
enum class Outcome : uint8_t {
  accepted,
  bad_mac1,
  cookie_sent,
  over_rate,
  unknown_peer,
  unknown_index,
  bad_handshake,
  replayed_initiation,
  crossed,  ///< both sides initiated at once, and it is this side's initiation that goes on
};

/// Steps of the negotiation of suites, told so that they can be counted.
enum class SuiteStep : uint8_t {
  offered,
  offer_received,
  settled,   ///< this side sends under the keys agreed on
  given_up,  ///< no answer: the session goes on as it was
};

/// What the session table asks of the thread that called it.
class SessionOutput {
 public:
  virtual ~SessionOutput() = default;
  /// One WireGuard message, to be wrapped in a frame when the endpoint is a leg. traffic_class: DSCP and
  /// ECN for the outer header.
  virtual void send(const Endpoint& to, Bytes message, uint8_t traffic_class) = 0;
  /// The same for one that is to be lost rather than fragmented on its way.
  virtual void send_unfragmented(const Endpoint& to, Bytes message) { send(to, message, 0); }
  /// Padding must not make a packet larger than this.
  virtual size_t inner_mtu() const { return SIZE_MAX; }
  /// `at`: where the peer is reached, or, if it has paths, where the handshake came by.
  virtual void session_established(Peer& peer, const Endpoint& at) = 0;
  /// The peer is reached another way than was told last; at most once in kEndpointInterval.
  virtual void endpoint_changed(Peer& peer) = 0;
  virtual void path_needed(Peer& peer) = 0;
  virtual void session_lost(Peer& peer) = 0;
  virtual void suite_step(SuiteStep step) = 0;
  virtual void path_event(Peer& peer, const PathEvent& event) = 0;
  /// A message went by the standby too.
  virtual void path_duplicate() = 0;
  /// Of these the table itself knows how many there were; whoever counts for each thread does so here.
  virtual void initiation_sent() {}
  virtual void keepalive_sent() {}
  virtual void padding_left_out() {}
};

/// A probe to be sent. `to.local`: all zero lets routing choose.
struct PathProbe {
  Key32 peer{};
  ProbeToken token{};
  Endpoint to;
  size_t size = 0;  ///< bytes of UDP payload at most, and not to be fragmented; 0: as few as possible
};

/// What became of a path frame.
enum class PathFrameOutcome : uint8_t { taken, answered, dropped, over_rate };

struct AllowedIpChange {
  AllowedIpChange(const Prefix& prefix_, bool remove_ = false) : prefix(prefix_), remove(remove_) {}
  Prefix prefix;
  bool remove;
};

/// A change of one peer; what is not given stays as it is.
struct PeerSettings {
  Key32 public_key{};
  bool remove = false;
  bool update_only = false;            ///< change the peer if there is one, but do not make one
  std::optional<Key32> preshared_key;  ///< all zero: none
  /// While a session runs, its packets go on to where it was heard last, and only handshakes go here.
  std::optional<Endpoint> endpoint;
  bool redirect = false;                            ///< packets of a running session go there at once, too
  std::optional<Nanoseconds> persistent_keepalive;  ///< 0: none
  std::optional<Transit> transit;                   ///< what its packets may be for
  bool replace_allowed_ips = false;                 ///< forget all prefixes before `allowed_ips`
  std::vector<AllowedIpChange> allowed_ips;         ///< in the order they were asked for
  /// A changed preshared key counts from the next handshake on; otherwise the session ends with the old.
  bool keep_session_on_new_psk = false;
};

struct SessionEnvironment {
  RandomBytes random;
  std::function<Timestamp()> timestamp;  ///< TAI64N, whitened
  crypto::AeadChoice aead{};             ///< for what the table itself sends
  uint8_t suites = 0;                    ///< suite_bit of each to agree on; 0 neither offers nor answers
  size_t window = kStandardWindow;       ///< under keys agreed on
  /// Nanoseconds since 1970; only shown, never decided upon.
  std::function<Nanoseconds()> wall_clock = [] { return Nanoseconds{0}; };
  /// Called under the mutex with the moment handle_path_timers is to be called next, kNever: it need not be.
  std::function<void(Nanoseconds)> wake_at = [](Nanoseconds) {};
  /// Control frames the session of a peer delivers; twice as many at once.
  uint64_t control_frames_per_second = kControlFramesPerSecond;
};

class SessionTable {
 public:
  SessionTable(const Key32& private_key, size_t max_peers, size_t workers, SessionEnvironment environment);
  ~SessionTable();

  const LocalIdentity& local() const { return local_; }
  Qsbr& qsbr() { return qsbr_; }

  // --- configuration (any thread; takes the mutex) ------------------------------------------------
  /// Adds, updates and removes, in order; with `replace`, removes every peer first. false, and nothing
  /// changed, when there would be more than max_peers.
  bool set_peers(const std::vector<PeerSettings>& peers, Nanoseconds now, SessionOutput& out,
                 bool replace = false);
  /// Whether set_peers would find room.
  bool has_room(const std::vector<PeerSettings>& peers, bool replace);
  void remove_peers(const std::vector<Key32>& keys);
  /// From now on these say where packets of peers may go.
  void set_exit_rules(std::unique_ptr<const ExitRules> rules);
  /// From now on this node has another key, or none (nullopt) and starts no handshake. Sessions end. Peers
  /// stay with all that was learnt about them, above all the greatest timestamp of each: if a former key
  /// comes back, initiations from its first time must not be taken again.
  void set_private_key(const std::optional<Key32>& key, Nanoseconds now);
  /// What MAC1 of messages for this node is made with.
  Key32 mac1_key();
  /// The interface goes down: sessions, handshakes and what waits for them are forgotten, and nothing is
  /// sent until it comes up again.
  void suspend();
  void resume(Nanoseconds now);
  /// Starts a handshake now, even if one was started less than REKEY_TIMEOUT ago.
  bool start_handshake(const Key32& peer, Nanoseconds now, SessionOutput& out);
  /// When the last handshake of a peer completed, 0 = never; nullopt: no such peer.
  std::optional<Nanoseconds> last_handshake(const Key32& peer);
  /// Segmented messages are lost on the way to this peer (BurstWatch::give_up): who says so, and until when
  /// it is believed; nullopt: no such peer.
  struct LostBursts {
    uint64_t witness;
    Nanoseconds until;
  };
  std::optional<LostBursts> give_up_bursts(const Key32& peer, Nanoseconds now);
  /// Sends a packet inside the session, or stages it until there is one. false: no such peer.
  bool send_inside(const Key32& peer, Bytes packet, Nanoseconds now, SessionOutput& out);
  /// Calls visit(peer) for each peer under the mutex, in the order they were added.
  void for_each(const std::function<void(Peer&)>& visit);
  size_t size();
  bool has_peer(const Key32& key);
  /// These `deliver` legs have another way back, or (nullopt) none any more: peers reached by one go on by it
  /// as it is now, or have no endpoint but the one they were given meanwhile.
  using WaysBack = std::unordered_map<uint32_t, std::optional<Endpoint>>;
  void change_ways_back(const WaysBack& changed, Nanoseconds now, SessionOutput& out);
  /// Replaces the path sets of these peers; who is none is left out. Workers go on with a former set until
  /// they are quiescent.
  void set_paths(const std::vector<PathSettings>& sets, Nanoseconds now, SessionOutput& out);
  /// Replaces the shaping of these peers; who is none is left out.
  void set_shaping(const std::vector<ShapingSettings>& all);
  /// nullopt: nothing of the peer's is shaped.
  std::optional<ShapingCounts> shaping_counts(const Key32& peer);
  /// Sends a packet that holds nothing, padded as others are (control_frame.h). false: there is no session,
  /// or no budget for it. It renews a session, but begins none with whom there was none for long.
  bool send_cover(const Key32& peer, Nanoseconds now, SessionOutput& out);
  /// false: there is no session to send it in. Nothing is staged, and no handshake comes of it.
  bool send_probe(const PathProbe& probe, Nanoseconds now, SessionOutput& out);
  /// In the order of the set; empty for a peer without one.
  std::vector<PathCounts> path_counts(const Key32& peer);
  /// Frees what no worker can hold any more.
  void reclaim();
  /// From now on for what the table itself sends.
  void use_aead(const crypto::AeadChoice& choice);
  /// Words mirror_indices needs.
  size_t index_slots() const { return IndexTable::most_slots(max_peers_); }
  /// From now on every index i of ours stands in words[i & (index_slots() - 1)]; the one of a session that
  /// ended stays there until another takes the place. The words are memory that others read.
  void mirror_indices(uint64_t* words);

  // --- slow path (workers; takes the mutex) -------------------------------------------------------
  Outcome handle_initiation(const Initiation& message, const Endpoint& from, Nanoseconds now,
                            SessionOutput& out);
  Outcome handle_response(const Response& message, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  Outcome handle_cookie_reply(const CookieReply& message, Nanoseconds now);
  /// To be called every 100 ms or so by one thread.
  void handle_timers(Nanoseconds now, SessionOutput& out);
  /// To be called when it is told to be (SessionEnvironment::wake_at).
  void handle_path_timers(Nanoseconds now, SessionOutput& out);
  /// Keeps a packet for a peer without a usable key and sees to it that there will be one.
  /// Returns how many older ones were dropped for it (0 or 1).
  size_t stage(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out);

  // --- packet path (workers between Qsbr::quiescent calls; no lock) -------------------------------
  const AllowedIps& routes() const { return routes_; }
  const ExitRules& exit_rules() const { return *exit_rules_.load(std::memory_order_acquire); }
  Keypair* find(uint32_t local_index) const { return indices_.find(local_index); }
  /// After data was sent with `keypair`: timers, and renewal when the key is old. by_active: by where the
  /// peer is reached, and not by another path it is split over.
  void data_sent(Keypair& keypair, size_t bytes, Nanoseconds now, SessionOutput& out, bool by_active = true);
  /// After packets from one place opened and passed the replay window: confirms the key, moves the
  /// endpoint, renews. The caller adds their bytes to Peer::rx_bytes.
  void authenticated(Keypair& keypair, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  /// After an authenticated packet turned out to hold a ping (ping_frame.h). false: no answer went out.
  bool answer_ping(Peer& peer, Bytes ping, Nanoseconds now, SessionOutput& out);
  /// After an authenticated packet turned out to hold a suite frame, which is no data. false: malformed.
  bool handle_suite_frame(Keypair& keypair, Bytes payload, Nanoseconds now, SessionOutput& out);
  /// Instead of `authenticated`, for a packet that holds a path frame (path_frame.h): nothing is moved. What
  /// has to be sent goes out at once, sealed by the caller's `aead`. The caller adds its bytes to
  /// Peer::rx_bytes.
  PathFrameOutcome handle_path_frame(Keypair& keypair, Bytes payload, const Endpoint& from, Nanoseconds now,
                                     crypto::Aead& aead, SessionOutput& out);
  /// After `authenticated`, of a peer with a path set; nullptr: it came by none of its paths. Valid as long
  /// as the set.
  static const PathSet::Path* heard_by_path(const PathSet& set, const Endpoint& from, Nanoseconds now);
  /// Before data of it is delivered.
  static void data_by_path(Peer& peer, const PathSet& set, const PathSet::Path* path, const Endpoint& from,
                           Nanoseconds now, SessionOutput& out);
  /// When they are all counted: so many packets, with data among them or not.
  void received_by_path(Peer& peer, const PathSet& set, const PathSet::Path& path, size_t packets,
                        size_t bytes, bool data, Nanoseconds now, crypto::Aead& aead, SessionOutput& out);
  /// After an authenticated packet turned out to carry data.
  static void data_received(Peer& peer, Nanoseconds now) {
    if (peer.keepalive_owed_since.load(std::memory_order_relaxed) == 0)
      peer.keepalive_owed_since.store(now, std::memory_order_relaxed);
  }

  uint64_t initiations_sent() const { return initiations_sent_.load(std::memory_order_relaxed); }
  uint64_t keepalives_sent() const { return keepalives_sent_.load(std::memory_order_relaxed); }

 private:
  struct KeyHash {
    size_t operator()(const Key32& key) const { return load<size_t>(key.data()); }
  };

  Peer* find_peer(const Key32& key);
  static bool tell_moved(Peer& peer, Nanoseconds now, SessionOutput& out);
  static void note_received(Peer& peer, Nanoseconds now) {
    peer.last_received.store(now, std::memory_order_relaxed);
    if (peer.unanswered_since.load(std::memory_order_relaxed) != 0)
      peer.unanswered_since.store(0, std::memory_order_relaxed);
  }
  void confirm(Keypair& keypair, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  // configuration.cc
  bool fits(const std::vector<PeerSettings>& settings, bool replace);
  Peer& add_peer(const Key32& key);
  void remove_peer(Peer& peer);
  void change_peer(Peer& peer, const PeerSettings& settings, Nanoseconds now, SessionOutput& out);
  void give_endpoint(Peer& peer, const Endpoint& endpoint, bool redirect, Nanoseconds now);
  // handshakes.cc
  void want_handshake(Peer& peer, Nanoseconds now, SessionOutput& out);
  void renew(Peer& peer, Nanoseconds now, SessionOutput& out);
  void initiate(Peer& peer, Nanoseconds now, SessionOutput& out, bool retry);
  static Endpoint choose_endpoint(Peer& peer, bool retry, Nanoseconds now);
  Nanoseconds random_jitter();
  void add_macs(Peer& peer, uint8_t* message, size_t size, Nanoseconds now);
  template <class Message>
  Outcome check_macs(const Message& message, const Endpoint& from, Nanoseconds now, SessionOutput& out);
  void release_handshake_index(Peer& peer);
  void abandon_handshake(Peer& peer);
  void begin_session(Peer& peer, bool initiator, Nanoseconds now);
  void discard(Keypair* keypair);
  void drop_keys(Peer& peer);
  // paths.cc
  void replace_paths(Peer& peer, const PathSettings& settings, Nanoseconds now, SessionOutput& out);
  void change_path_legs(Peer& peer, const WaysBack& changed);
  void retire_paths(PathSet* set);
  void find_silence(Peer& peer, SessionOutput& out);
  void send_due_reports(Peer& peer, Nanoseconds now, SessionOutput& out);
  static void send_report(crypto::Aead& aead, Peer& peer, const PathSet::Path& path, Nanoseconds now,
                          SessionOutput& out);
  // sending.cc
  void transmit(Peer& peer, const Endpoint& to, Bytes message, uint8_t traffic_class, SessionOutput& out,
                const PathSet::Path* by = nullptr);
  static bool send_by(crypto::Aead& aead, Keypair& keypair, const Endpoint& to, Bytes packet, Nanoseconds now,
                      SessionOutput& out, bool unfragmented = false);
  bool send_under(Keypair& keypair, Bytes packet, Nanoseconds now, SessionOutput& out);
  bool send_packet(Peer& peer, Bytes packet, Nanoseconds now, SessionOutput& out);
  void count_keepalive(SessionOutput& out) {
    keepalives_sent_.fetch_add(1, std::memory_order_relaxed);
    out.keepalive_sent();
  }
  /// Starts a handshake when there is no session to send it in.
  void send_persistent_keepalive(Peer& peer, Nanoseconds now, SessionOutput& out);
  void flush_staged(Peer& peer, Nanoseconds now, SessionOutput& out);
  // timers.cc
  struct PeerTimer;
  static const PeerTimer kPeerTimers[];
  static const PeerTimer kPathTimers[];
  void arm(Peer& peer, Nanoseconds now);
  void serve_paths(Nanoseconds now, SessionOutput& out);
  void set_path_timer(Peer& peer, Nanoseconds now);
  void arm_paths(Peer& peer, Nanoseconds now);
  void arm_paths_unlocked(Peer& peer, Nanoseconds now);
  void cancel_path_timer(Peer& peer);
  void wake_for_paths();
  // suite_negotiation.cc
  static bool offer_due(const Keypair& keypair, Nanoseconds previous, Nanoseconds now);
  void offer_suites(Keypair& first, Nanoseconds now, SessionOutput& out);
  void make_offer(Keypair& first);
  void handle_offer(Keypair& first, const ReceivedOffer& received, Nanoseconds now, SessionOutput& out);
  void handle_proof(Keypair& first, ProofState state, Nanoseconds now, SessionOutput& out);
  void send_proof(Keypair& first, Nanoseconds now, SessionOutput& out);
  static Nanoseconds next_negotiation_step(const SuiteNegotiation& negotiation);
  void drive_negotiation(Peer& peer, Nanoseconds now, SessionOutput& out);

  LocalIdentity local_;
  size_t max_peers_;
  SessionEnvironment environment_;
  crypto::Aead aead_;  // under the mutex
  Qsbr qsbr_;
  std::mutex mutex_;
  Timestamp removed_timestamp_{};  ///< the latest sent to a peer that was removed: it may come back
  std::unordered_map<Key32, std::unique_ptr<Peer>, KeyHash> peers_;
  AllowedIps routes_;
  std::atomic<const ExitRules*> exit_rules_;  ///< a former one is freed when no worker can hold it
  IndexTable indices_;
  TimerHeap<Peer> timers_;
  TimerHeap<Peer, &Peer::path_timer> path_timers_;
  Nanoseconds wake_at_ = kNever;  ///< as the environment was told
  bool has_identity_ = true;
  bool suspended_ = false;
  uint64_t next_sequence_ = 1;
  uint64_t next_keypair_id_ = 1;
  CookieJar cookies_;
  TokenBucket handshake_budget_;
  PrefixBuckets source_budget_;
  Nanoseconds under_load_until_ = 0;
  std::atomic<uint64_t> initiations_sent_{0};
  std::atomic<uint64_t> keepalives_sent_{0};
};

}  // namespace omerta::session
