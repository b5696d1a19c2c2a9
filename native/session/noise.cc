// SPDX-License-Identifier: Apache-2.0
#include "session/noise.h"

#include <sodium.h>

#include <string_view>

#include "crypto/blake2s.h"

namespace omerta::session {
namespace {

using crypto::blake2s;
using crypto::kdf;

Bytes text(std::string_view s) { return Bytes(reinterpret_cast<const uint8_t*>(s.data()), s.size()); }

constexpr std::string_view kConstruction = "Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s";
constexpr std::string_view kIdentifier = "WireGuard v1 zx2c4 Jason@zx2c4.com";

const Key32& initial_chaining_key() {
  static const Key32 key = blake2s({text(kConstruction)});
  return key;
}
const Key32& initial_hash() {
  static const Key32 hash = blake2s({initial_chaining_key(), text(kIdentifier)});
  return hash;
}

bool dh(Key32& out, const Key32& private_key, const Key32& public_key) {
  // libsodium refuses an all-zero result (the seven low-order points).
  return crypto_scalarmult_curve25519(out.data(), private_key.data(), public_key.data()) == 0;
}

void mix_hash(Key32& hash, Bytes data) { hash = blake2s({hash, data}); }

void seal(uint8_t* out, const Key32& key, Bytes plaintext, const Key32& hash) {
  static constexpr uint8_t nonce[12] = {};
  crypto_aead_chacha20poly1305_ietf_encrypt(out, nullptr, plaintext.data(), plaintext.size(), hash.data(),
                                            hash.size(), nullptr, nonce, key.data());
}

bool open(uint8_t* out, const Key32& key, Bytes sealed, const Key32& hash) {
  static constexpr uint8_t nonce[12] = {};
  return crypto_aead_chacha20poly1305_ietf_decrypt(out, nullptr, nullptr, sealed.data(), sealed.size(),
                                                   hash.data(), hash.size(), nonce, key.data()) == 0;
}

/// A key that wipes itself.
struct Secret : Key32 {
  Secret() : Key32{} {}
  Secret(const Secret&) = delete;
  Secret& operator=(const Secret&) = delete;
  ~Secret() { sodium_memzero(data(), size()); }
};

/// Mixes in the responder's ephemeral part that both sides compute: ee, se, psk.
void mix_preshared(HandshakeState& state, const Key32& preshared_key, Key32& key) {
  Secret t;
  kdf(state.chaining_key, preshared_key, &state.chaining_key, &t, &key);
  mix_hash(state.hash, t);
}

}  // namespace

Key32 public_key_of(const Key32& private_key) {
  Key32 out{};
  crypto_scalarmult_curve25519_base(out.data(), private_key.data());
  return out;
}

LocalIdentity::LocalIdentity(const Key32& key)
    : private_key(key),
      public_key(public_key_of(key)),
      mac1_key(blake2s({text("mac1----"), public_key})),
      cookie_key(blake2s({text("cookie--"), public_key})) {}

LocalIdentity::~LocalIdentity() { sodium_memzero(private_key.data(), private_key.size()); }

RemoteIdentity::RemoteIdentity(const LocalIdentity& local, const Key32& key)
    : public_key(key),
      static_static{},
      mac1_key(blake2s({text("mac1----"), key})),
      cookie_key(blake2s({text("cookie--"), key})),
      usable(dh(static_static, local.private_key, key)) {}

void RemoteIdentity::meet(const LocalIdentity& local) {
  usable = dh(static_static, local.private_key, public_key);
}

RemoteIdentity::~RemoteIdentity() {
  sodium_memzero(static_static.data(), static_static.size());
  sodium_memzero(preshared_key.data(), preshared_key.size());
}

void TransportKeys::wipe() {
  sodium_memzero(send.data(), send.size());
  sodium_memzero(receive.data(), receive.size());
}

void HandshakeState::wipe() {
  sodium_memzero(chaining_key.data(), 32);
  sodium_memzero(hash.data(), 32);
  sodium_memzero(ephemeral_private.data(), 32);
  sodium_memzero(remote_ephemeral.data(), 32);
  local_index = 0;
  remote_index = 0;
}

bool create_initiation(const LocalIdentity& local, const RemoteIdentity& remote,
                       const Key32& ephemeral_private, const Timestamp& timestamp, uint32_t local_index,
                       HandshakeState& state, Initiation& out) {
  if (!remote.usable) return false;
  out = {};
  out.type = kInitiationType;
  out.sender = local_index;
  out.ephemeral = public_key_of(ephemeral_private);
  state.ephemeral_private = ephemeral_private;
  state.local_index = local_index;
  state.remote_index = 0;
  state.chaining_key = initial_chaining_key();
  state.hash = initial_hash();
  mix_hash(state.hash, remote.public_key);
  kdf(state.chaining_key, out.ephemeral, &state.chaining_key);
  mix_hash(state.hash, out.ephemeral);

  Secret shared, key;
  if (!dh(shared, ephemeral_private, remote.public_key)) return false;
  kdf(state.chaining_key, shared, &state.chaining_key, &key);
  seal(out.sealed_static.data(), key, local.public_key, state.hash);
  mix_hash(state.hash, out.sealed_static);

  kdf(state.chaining_key, remote.static_static, &state.chaining_key, &key);
  seal(out.sealed_timestamp.data(), key, timestamp, state.hash);
  mix_hash(state.hash, out.sealed_timestamp);
  return true;
}

std::optional<ReceivedInitiation> open_initiation_static(const LocalIdentity& local,
                                                         const Initiation& message) {
  ReceivedInitiation received{};
  HandshakeState& state = received.state;
  state.chaining_key = initial_chaining_key();
  state.hash = initial_hash();
  mix_hash(state.hash, local.public_key);
  kdf(state.chaining_key, message.ephemeral, &state.chaining_key);
  mix_hash(state.hash, message.ephemeral);

  Secret shared, key;
  if (!dh(shared, local.private_key, message.ephemeral)) return std::nullopt;
  kdf(state.chaining_key, shared, &state.chaining_key, &key);
  if (!open(received.static_key.data(), key, message.sealed_static, state.hash)) return std::nullopt;
  mix_hash(state.hash, message.sealed_static);
  state.remote_ephemeral = message.ephemeral;
  state.remote_index = message.sender;
  return received;
}

std::optional<Timestamp> open_initiation_timestamp(const RemoteIdentity& remote, ReceivedInitiation& received,
                                                   const Initiation& message) {
  if (!remote.usable) return std::nullopt;
  HandshakeState& state = received.state;
  Secret key;
  Timestamp timestamp;
  kdf(state.chaining_key, remote.static_static, &state.chaining_key, &key);
  if (!open(timestamp.data(), key, message.sealed_timestamp, state.hash)) return std::nullopt;
  mix_hash(state.hash, message.sealed_timestamp);
  return timestamp;
}

bool create_response(const LocalIdentity&, const RemoteIdentity& remote, const Key32& ephemeral_private,
                     uint32_t local_index, HandshakeState& state, Response& out) {
  out = {};
  out.type = kResponseType;
  out.sender = local_index;
  out.receiver = state.remote_index;
  out.ephemeral = public_key_of(ephemeral_private);
  state.local_index = local_index;
  state.ephemeral_private = ephemeral_private;
  kdf(state.chaining_key, out.ephemeral, &state.chaining_key);
  mix_hash(state.hash, out.ephemeral);

  Secret shared, key;
  if (!dh(shared, ephemeral_private, state.remote_ephemeral)) return false;
  kdf(state.chaining_key, shared, &state.chaining_key);
  if (!dh(shared, ephemeral_private, remote.public_key)) return false;
  kdf(state.chaining_key, shared, &state.chaining_key);
  mix_preshared(state, remote.preshared_key, key);
  seal(out.sealed_empty.data(), key, {}, state.hash);
  mix_hash(state.hash, out.sealed_empty);
  return true;
}

bool consume_response(const LocalIdentity& local, const RemoteIdentity& remote, const Response& message,
                      HandshakeState& state) {
  HandshakeState next = state;
  bool ok = false;
  {
    Secret shared, key;
    kdf(next.chaining_key, message.ephemeral, &next.chaining_key);
    mix_hash(next.hash, message.ephemeral);
    if (dh(shared, next.ephemeral_private, message.ephemeral)) {
      kdf(next.chaining_key, shared, &next.chaining_key);
      if (dh(shared, local.private_key, message.ephemeral)) {
        kdf(next.chaining_key, shared, &next.chaining_key);
        mix_preshared(next, remote.preshared_key, key);
        uint8_t nothing = 0;
        ok = open(&nothing, key, message.sealed_empty, next.hash);
      }
    }
  }
  if (ok) {
    mix_hash(next.hash, message.sealed_empty);
    next.remote_ephemeral = message.ephemeral;
    next.remote_index = message.sender;
    state = next;
  }
  next.wipe();
  return ok;
}

TransportKeys derive_transport_keys(const HandshakeState& state, bool initiator) {
  TransportKeys keys;
  Key32 first, second;
  kdf(state.chaining_key, {}, &first, &second);
  keys.send = initiator ? first : second;
  keys.receive = initiator ? second : first;
  sodium_memzero(first.data(), 32);
  sodium_memzero(second.data(), 32);
  return keys;
}

Key32 derive_suite_secret(const HandshakeState& state) {
  Key32 secret;
  kdf(state.chaining_key, text("omerta suite secret v1"), &secret);
  return secret;
}

}  // namespace omerta::session
