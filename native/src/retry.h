#ifndef IMAGEIO_NATIVE_RETRY_H_
#define IMAGEIO_NATIVE_RETRY_H_

#include <cerrno>

namespace imageio {

// Repeats a system call that a signal interrupted.
template <typename SystemCall>
auto RetryInterrupted(SystemCall call) -> decltype(call()) {
  decltype(call()) result;
  do {
    result = call();
  } while (result == -1 && errno == EINTR);
  return result;
}

}  // namespace imageio

#endif  // IMAGEIO_NATIVE_RETRY_H_
