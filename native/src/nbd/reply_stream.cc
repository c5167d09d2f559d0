#include "reply_stream.h"

#include <algorithm>
#include <limits>

namespace imageio::nbd {

namespace {

// Names and numbers as in daemon/backends/nbd/protocol.ts.
constexpr uint32_t kSimpleMagic = 0x67446698;
constexpr uint32_t kStructuredMagic = 0x668e33ef;
constexpr uint32_t kExtendedMagic = 0x6e8a278c;
constexpr uint16_t kDone = 1;
constexpr uint16_t kNone = 0;
constexpr uint16_t kOffsetData = 1;
constexpr uint16_t kOffsetHole = 2;
constexpr uint16_t kIsError = 1 << 15;

constexpr size_t kSimpleHead = 16;
constexpr size_t kStructuredHead = 20;
constexpr size_t kExtendedHead = 32;
constexpr size_t kDataPlace = 8;
constexpr size_t kHolePlace = 12;

uint64_t Number(std::span<const uint8_t> bytes) {
  uint64_t number = 0;
  for (const uint8_t byte : bytes) number = number << 8 | byte;
  return number;
}

}  // namespace

ReplyStream::ReplyStream(ReplyFormat format, PendingReads& reads, ReplySink& sink)
    : format_(format), reads_(reads), sink_(sink) {
  Expect(State::kHead, 0);
}

void ReplyStream::Filled(size_t size) {
  target_ = target_.subspan(size);
  if (target_.empty() && state_ == State::kData) EndChunk();
}

void ReplyStream::Feed(std::span<const uint8_t> bytes) {
  while (!bytes.empty() && !is_broken_) {
    size_t taken = 0;
    if (state_ == State::kData) {
      taken = std::min(bytes.size(), target_.size());
      std::copy_n(bytes.data(), taken, target_.data());
      Filled(taken);
    } else if (state_ == State::kForeign) {
      taken = static_cast<size_t>(std::min<uint64_t>(bytes.size(), foreign_));
      sink_.Bytes(bytes.first(taken));
      if (!is_lost_) foreign_ -= taken;
      if (foreign_ == 0) Expect(State::kHead, 0);
    } else {
      taken = Gather(bytes);
    }
    bytes = bytes.subspan(taken);
  }
}

size_t ReplyStream::Gather(std::span<const uint8_t> bytes) {
  const size_t taken = std::min(bytes.size(), wanted_ - gathered_);
  std::copy_n(bytes.data(), taken, head_.data() + gathered_);
  gathered_ += taken;
  if (gathered_ == wanted_) Step();
  return taken;
}

void ReplyStream::Step() {
  if (state_ == State::kPlace) return TakePlace();
  const auto magic = Number(std::span(head_).first(4));
  if (format_.dialect == Dialect::kStructured && magic == kStructuredMagic &&
      wanted_ < kStructuredHead) {
    wanted_ = kStructuredHead;
    return;
  }
  TakeHead();
}

void ReplyStream::TakeHead() {
  const std::span<const uint8_t> head(head_);
  const auto magic = Number(head.first(4));
  const Dialect dialect = format_.dialect;
  const bool is_simple = magic == kSimpleMagic && dialect != Dialect::kExtended;
  const bool is_chunk =
      magic == (dialect == Dialect::kExtended ? kExtendedMagic : kStructuredMagic);
  if (!is_simple && (!is_chunk || dialect == Dialect::kSimple)) {
    is_lost_ = true;
    return HandOn(std::numeric_limits<uint64_t>::max());
  }
  const bool is_ours = Number(head.subspan(8, 4)) == format_.cookie_high;
  cookie_ = static_cast<uint32_t>(Number(head.subspan(12, 4)));
  read_ = is_ours ? reads_.Find(cookie_) : nullptr;
  if (is_simple) {
    TakeSimple();
  } else {
    TakeChunk();
  }
}

void ReplyStream::TakeSimple() {
  const bool is_error = Number(std::span(head_).subspan(4, 4)) != 0;
  if (read_ == nullptr || is_error || format_.dialect != Dialect::kSimple) {
    if (read_ != nullptr) reads_.Remove(cookie_);
    return HandOn(0);
  }
  const char* problem = read_->Place(read_->offset(), read_->size(), &target_);
  if (problem != nullptr) return Break(problem);
  is_last_ = true;
  state_ = State::kData;
  Filled(0);  // there may be nothing to wait for
}

void ReplyStream::TakeChunk() {
  const std::span<const uint8_t> head(head_);
  const bool is_extended = format_.dialect == Dialect::kExtended;
  const auto type = static_cast<uint16_t>(Number(head.subspan(6, 2)));
  const uint64_t size = Number(is_extended ? head.subspan(24, 8) : head.subspan(16, 4));
  is_last_ = (Number(head.subspan(4, 2)) & kDone) != 0;
  const bool is_data = type == kNone || type == kOffsetData || type == kOffsetHole;
  const bool has_its_offset =
      !is_extended || read_ == nullptr || Number(head.subspan(16, 8)) == read_->offset();
  if (read_ == nullptr || !is_data || !has_its_offset) {
    if (read_ != nullptr && (type & kIsError) != 0) {
      read_->Fail();
      if (is_last_) reads_.Remove(cookie_);
    }
    return HandOn(size);
  }
  if (type == kNone) {
    if (!is_last_ || size != 0) return Break("an empty chunk that is not the last");
    return Finish();
  }
  is_hole_ = type == kOffsetHole;
  if (is_hole_ && size != kHolePlace) return Break("a hole chunk with a wrong length");
  if (!is_hole_ && size <= kDataPlace) return Break("a data chunk without data");
  data_size_ = size - kDataPlace;
  Expect(State::kPlace, is_hole_ ? kHolePlace : kDataPlace);
}

void ReplyStream::TakePlace() {
  const std::span<const uint8_t> place(head_);
  if (is_hole_) data_size_ = Number(place.subspan(8, 4));
  if (data_size_ == 0) return Break("an empty hole");
  const char* problem = read_->Place(Number(place.first(8)), data_size_, &target_);
  if (problem != nullptr) return Break(problem);
  state_ = State::kData;
  if (!is_hole_) return;
  std::ranges::fill(target_, uint8_t{0});
  Filled(target_.size());
}

// The head that was gathered, and so many bytes behind it.
void ReplyStream::HandOn(uint64_t size) {
  sink_.Bytes(std::span(head_).first(gathered_));
  foreign_ = size;
  Expect(size == 0 ? State::kHead : State::kForeign, 0);
}

void ReplyStream::EndChunk() {
  if (is_last_) return Finish();
  Expect(State::kHead, 0);
}

void ReplyStream::Finish() {
  if (!read_->MayEnd()) return Break("a reply without all of the data");
  reads_.Remove(cookie_);
  Expect(State::kHead, 0);
  sink_.Finished(cookie_);
}

void ReplyStream::Break(const char* violation) {
  is_broken_ = true;
  target_ = {};
  sink_.Broken(violation);
}

// `size` is for what is gathered and no head.
void ReplyStream::Expect(State state, size_t size) {
  state_ = state;
  gathered_ = 0;
  wanted_ = size;
  if (state != State::kHead) return;
  read_ = nullptr;
  wanted_ = format_.dialect == Dialect::kExtended ? kExtendedHead : kSimpleHead;
}

}  // namespace imageio::nbd
