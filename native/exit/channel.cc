// SPDX-License-Identifier: Apache-2.0
#include "exit/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <mutex>

namespace omerta::exit {
namespace {

constexpr size_t kMostDescriptors = 2;

struct Message {
  explicit Message(Answer& answer) : part{&answer, sizeof answer} {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control;
    header.msg_controllen = sizeof control;
  }
  iovec part;
  msghdr header{};
  alignas(cmsghdr) uint8_t control[CMSG_SPACE(kMostDescriptors * sizeof(int))]{};
};

}  // namespace

bool send_answer(int channel, const Answer& answer, const std::vector<int>& descriptors) {
  Answer sent = answer;
  Message message(sent);
  const size_t count = std::min(descriptors.size(), kMostDescriptors);
  message.header.msg_controllen = count == 0 ? 0 : CMSG_SPACE(count * sizeof(int));
  if (cmsghdr* rights = CMSG_FIRSTHDR(&message.header); count > 0) {
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(rights), descriptors.data(), count * sizeof(int));
  }
  return sendmsg(channel, &message.header, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof sent);
}

Answer receive_answer(int channel, std::vector<int>& descriptors) {
  Answer answer;
  const auto failed = [&](int error) {
    answer = {};
    answer.error = error;
    return answer;
  };
  pollfd ready{channel, POLLIN, 0};
  int waited = 0;
  do waited = poll(&ready, 1, kPatienceMs);
  while (waited < 0 && errno == EINTR);
  if (waited <= 0) return failed(waited == 0 ? ETIMEDOUT : errno);
  Message message(answer);
  const ssize_t got = recvmsg(channel, &message.header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  for (cmsghdr* part = CMSG_FIRSTHDR(&message.header); got > 0 && part != nullptr;
       part = CMSG_NXTHDR(&message.header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    const size_t before = descriptors.size();
    descriptors.resize(before + count);
    std::memcpy(descriptors.data() + before, CMSG_DATA(part), count * sizeof(int));
  }
  if (got != static_cast<ssize_t>(sizeof answer)) return failed(got < 0 ? errno : EPIPE);
  return answer;
}

int ask(int channel, const Request& request) {
  // Whichever thread asks takes its own answer.
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  static uint32_t last_number = 0;
  Request sent = request;
  sent.number = ++last_number;
  if (send(channel, &sent, sizeof sent, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof sent)) return -1;
  for (;;) {
    std::vector<int> descriptors;
    const Answer answer = receive_answer(channel, descriptors);
    const bool is_of_us = answer.number == sent.number;
    if (is_of_us && answer.error == 0 && descriptors.size() == 1) return descriptors.front();
    for (const int each : descriptors) close(each);
    if (!is_of_us && answer.number != 0) continue;
    errno = answer.error != 0 ? answer.error : EPROTO;
    return -1;
  }
}

}  // namespace omerta::exit
