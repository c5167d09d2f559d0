#include <unistd.h>

#include "arguments.h"
#include "functions.h"

namespace imageio {

namespace {

constexpr int64_t kMaxStatus = 255;

}  // namespace

void Exit(const Napi::CallbackInfo& info) {
  const int64_t status = SizeArgument(info, 0, "status");
  if (status > kMaxStatus) throw Napi::RangeError::New(info.Env(), "status must be at most 255");
  _exit(static_cast<int>(status));
}

}  // namespace imageio
