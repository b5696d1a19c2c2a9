// SPDX-License-Identifier: Apache-2.0
#include "stack/cubic.h"

#include <algorithm>
#include <cmath>

namespace omerta::stack {
namespace {

constexpr double kBeta = 0.7;                             // RFC 9438 4.6
constexpr double kC = 0.4;                                // 5.1
constexpr double kAlpha = 3 * (1 - kBeta) / (1 + kBeta);  // 4.3

double seconds(Nanoseconds time) { return static_cast<double>(time) / static_cast<double>(kSecond); }

}  // namespace

void Cubic::set_mss(uint32_t mss) {
  const bool fresh = mss_ == 0 || (window_ == initial() && threshold_ == kMost);
  mss_ = mss;
  if (fresh) window_ = initial();
  window_ = std::max(window_, mss_);
}

/// RFC 6928.
uint32_t Cubic::initial() const { return std::min(10 * mss_, std::max(2 * mss_, 14600U)); }

void Cubic::acknowledged(uint32_t bytes, Nanoseconds now, Nanoseconds rtt) {
  if (slow_start()) {
    const uint32_t grown = std::min(bytes, threshold_ - window_);
    window_ += grown;
    bytes -= grown;
    if (bytes == 0) return;
  }
  if (!in_epoch_) begin_epoch(now);
  // Time in which the sender was not held back by the window does not count (4.2, 5.8).
  if (now - last_ > rtt + kSecond / 10) epoch_ += now - last_;
  last_ = now;
  const double window = window_ / static_cast<double>(mss_);
  const double acked = bytes / static_cast<double>(mss_);
  const auto cubic = [this](double t) { return kC * std::pow(t - time_, 3) + origin_; };
  const double t = seconds(now - epoch_);
  const double target = std::clamp(cubic(t + seconds(rtt)), window, 1.5 * window);  // (4.2)
  estimate_ += (estimate_ >= prior_ ? 1 : kAlpha) * acked / window;                 // (4.3)
  double next =
      cubic(t) < estimate_ ? std::max(estimate_, window) : window + (target - window) * acked / window;
  next = std::min(next, window + acked);  // never faster than slow start, however long nothing was told
  growth_ += (next - window) * mss_;
  const auto whole = static_cast<uint32_t>(growth_);
  growth_ -= whole;
  window_ = std::min(window_ + whole, kMost);
}

void Cubic::begin_epoch(Nanoseconds now) {
  const double window = window_ / static_cast<double>(mss_);
  in_epoch_ = true;
  epoch_ = last_ = now;
  origin_ = std::max(maximum_, window);
  time_ = std::cbrt((origin_ - window) / kC);
  estimate_ = window;
  growth_ = 0;
}

void Cubic::reduce(uint32_t flight) {
  const double window = window_ / static_cast<double>(mss_);
  in_epoch_ = false;
  prior_ = window;
  maximum_ = window < maximum_ ? window * (1 + kBeta) / 2 : window;  // fast convergence (4.7)
  threshold_ = std::max(static_cast<uint32_t>(flight * kBeta), 2 * mss_);
}

void Cubic::congestion(uint32_t flight) {
  reduce(flight);
  window_ = std::min(window_, threshold_);
}

void Cubic::timeout(uint32_t flight) {
  reduce(flight);
  maximum_ = 0;  // the next epoch begins where slow start ends
  window_ = mss_;
}

void Cubic::restart() {
  window_ = std::min(window_, initial());
  in_epoch_ = false;
}

void Cubic::restore(const Memory& memory) {
  window_ = std::max(window_, memory.window);
  threshold_ = std::max(threshold_, memory.threshold);
  maximum_ = std::max(maximum_, memory.maximum);
  in_epoch_ = false;
}

}  // namespace omerta::stack
