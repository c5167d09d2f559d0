#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "arguments.h"
#include "functions.h"
#include "system_call_worker.h"

namespace imageio {

Napi::Value HasPeerEnded(const Napi::CallbackInfo& info) {
  const int fd = DescriptorArgument(info, 0);
  tcp_info state{};
  socklen_t size = sizeof(state);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &size) == -1) {
    ThrowFailure(info.Env(), {errno, "getsockopt(TCP_INFO)"});
  }
  return Napi::Boolean::New(info.Env(),
                            state.tcpi_state == TCP_CLOSE || state.tcpi_state == TCP_CLOSE_WAIT);
}

}  // namespace imageio
