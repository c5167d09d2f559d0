#ifndef IMAGEIO_NATIVE_NBD_REPLY_STREAM_H_
#define IMAGEIO_NATIVE_NBD_REPLY_STREAM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "pending_read.h"

namespace imageio::nbd {

// How replies look on the wire. The numbers are those of native/nbd.ts.
enum class Dialect : int { kSimple = 0, kStructured = 1, kExtended = 2 };

struct ReplyFormat {
  Dialect dialect = Dialect::kSimple;
  uint32_t cookie_high = 0;  // of every request of this connection
};

// What is found in a stream of replies, in its order.
class ReplySink {
 public:
  virtual ~ReplySink() = default;
  // All data of this read are in their place, or all that come: then an error was told before.
  virtual void Finished(uint32_t cookie) = 0;
  // Of a reply that is not ours to understand, from its first byte on, in any pieces.
  virtual void Bytes(std::span<const uint8_t> bytes) = 0;
  // The last that is told: nothing behind it can be trusted.
  virtual void Broken(const char* violation) = 0;
};

// Takes the replies of one connection apart as far as they bring data for a read that is pending,
// and puts those into their place. All others are handed on whole, bytes as they came, to the
// parser in JavaScript: errors, extents, acknowledgements, and whatever is wrong with a header. So
// there is one that judges, and this one has little to be wrong about.
class ReplyStream {
 public:
  ReplyStream(ReplyFormat format, PendingReads& reads, ReplySink& sink);

  // Where the next bytes of the stream belong, if they are data.
  std::span<uint8_t> direct() const { return target_; }
  // So many were put there.
  void Filled(size_t size);
  // What was received elsewhere.
  void Feed(std::span<const uint8_t> bytes);

  bool is_broken() const { return is_broken_; }

 private:
  enum class State { kHead, kPlace, kData, kForeign };

  static constexpr size_t kMaxHead = 32;

  size_t Gather(std::span<const uint8_t> bytes);
  void Step();
  void TakeHead();
  void TakeSimple();
  void TakeChunk();
  void TakePlace();
  void HandOn(uint64_t size);
  void EndChunk();
  void Finish();
  void Break(const char* violation);
  void Expect(State state, size_t size);

  const ReplyFormat format_;
  PendingReads& reads_;
  ReplySink& sink_;
  State state_ = State::kHead;
  std::array<uint8_t, kMaxHead> head_{};
  size_t gathered_ = 0;
  size_t wanted_ = 0;
  std::span<uint8_t> target_;
  uint64_t foreign_ = 0;  // bytes to hand on
  bool is_lost_ = false;  // from here on all is handed on
  bool is_broken_ = false;

  // The reply that is being read.
  PendingRead* read_ = nullptr;
  uint32_t cookie_ = 0;
  bool is_last_ = false;
  bool is_hole_ = false;
  uint64_t data_size_ = 0;
};

}  // namespace imageio::nbd

#endif  // IMAGEIO_NATIVE_NBD_REPLY_STREAM_H_
