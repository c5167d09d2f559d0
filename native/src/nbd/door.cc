#include <napi.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <system_error>
#include <utility>

#include "../addon_data.h"
#include "../arguments.h"
#include "../event_queue.h"
#include "../functions.h"
#include "../retry.h"
#include "engine.h"

namespace imageio {

namespace {

using nbd::Dialect;
using nbd::Engine;
using nbd::Event;
using nbd::EventKind;
using nbd::Outgoing;
using nbd::PendingRead;
using nbd::ReplyFormat;

using NbdEvents = EventQueue<Event, nbd::EventSink>;

// Numbers of 32 bits.
uint32_t WordArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  const int64_t number = SizeArgument(info, index, name);
  if (number > UINT32_MAX) {
    throw Napi::RangeError::New(info.Env(), std::string(name) + " is too large");
  }
  return static_cast<uint32_t>(number);
}

// See native/nbd.ts.
class NbdDoor final : public Napi::ObjectWrap<NbdDoor> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "NbdDoor",
        {InstanceMethod<&NbdDoor::Take>("take"), InstanceMethod<&NbdDoor::Read>("read"),
         InstanceMethod<&NbdDoor::Send>("send"), InstanceMethod<&NbdDoor::Cut>("cut")});
  }

  explicit NbdDoor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<NbdDoor>(info) {
    if (!info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "onEvent must be a function");
    const unsigned threads = ThreadsArgument(info, 1);
    events_ =
        std::make_unique<NbdEvents>(info.Env(), info[0].As<Napi::Function>(), "imageio.nbd",
                                    [this](Napi::Env env, const Napi::Function& callback,
                                           const Event& event) { Tell(env, callback, event); });
    events_->Unref(info.Env());  // who waits for an answer has a timer
    try {
      engine_ = std::make_unique<Engine>(*events_, threads);
    } catch (...) {
      End();
      throw;
    }
    // Called before the function's own, which was there first; the destructor comes after both.
    info.Env().AddCleanupHook([](NbdDoor* door) { door->End(); }, this);
  }

 private:
  // The environment ends. Until then the function keeps the door.
  void End() {
    engine_.reset();
    events_->Close();
  }

  void Tell(Napi::Env env, const Napi::Function& callback, const Event& event) {
    callback.Call({Napi::Number::New(env, static_cast<int>(event.kind)),
                   Napi::Number::New(env, static_cast<double>(event.link)),
                   Napi::Number::New(env, event.value), Content(env, event)});
    if (event.bytes.empty()) return;
    if (const auto link = engine_->Find(event.link)) link->Took(event.bytes.size());
  }

  static Napi::Value Content(Napi::Env env, const Event& event) {
    if (event.kind == EventKind::kBytes) {
      return ByteBuffer::Copy(env, event.bytes.data(), event.bytes.size());
    }
    if (event.kind == EventKind::kBroken) return Napi::String::New(env, event.text);
    return env.Undefined();
  }

  Napi::Value Take(const Napi::CallbackInfo& info) {
    const int socket = DescriptorArgument(info, 0);
    const uint32_t dialect = WordArgument(info, 1, "dialect");
    if (dialect > static_cast<uint32_t>(Dialect::kExtended)) {
      throw Napi::RangeError::New(info.Env(), "dialect must be from 0 to 2");
    }
    const ReplyFormat format{.dialect = static_cast<Dialect>(dialect),
                             .cookie_high = WordArgument(info, 2, "cookieHigh")};
    try {
      return Napi::Number::New(info.Env(), static_cast<double>(engine_->Add(socket, format)));
    } catch (const std::system_error& error) {
      ThrowFailure(info.Env(), {error.code().value(), "fcntl(F_DUPFD_CLOEXEC)"});
    }
  }

  std::shared_ptr<nbd::Link> Find(const Napi::CallbackInfo& info) {
    return engine_->Find(static_cast<uint64_t>(SizeArgument(info, 0, "link")));
  }

  static Outgoing RequestArgument(const Napi::CallbackInfo& info) {
    const ByteBuffer header = BufferArgument(info, 1, "header");
    if (header.Length() > Outgoing::kMaxHeader) {
      throw Napi::RangeError::New(info.Env(), "header is too long");
    }
    Outgoing request;
    std::copy_n(header.Data(), header.Length(), request.header.begin());
    request.header_size = header.Length();
    request.cookie = WordArgument(info, 2, "cookie");
    return request;
  }

  // The caller keeps the memory of the target alive until it is told, or has cut the link.
  void Read(const Napi::CallbackInfo& info) {
    const Outgoing request = RequestArgument(info);
    const auto offset = static_cast<uint64_t>(SizeArgument(info, 3, "offset"));
    const ByteBuffer target = BufferArgument(info, 4, "target");
    const auto link = Find(info);
    if (link == nullptr) return;
    link->Expect(request.cookie, PendingRead(offset, {target.Data(), target.Length()}));
    link->Send(request);
  }

  // The same for the payload, if there is any.
  void Send(const Napi::CallbackInfo& info) {
    Outgoing request = RequestArgument(info);
    if (!info[3].IsUndefined()) {
      const ByteBuffer payload = BufferArgument(info, 3, "payload");
      request.payload = {payload.Data(), payload.Length()};
    }
    request.wants_sent = true;
    if (const auto link = Find(info)) link->Send(request);
  }

  void Cut(const Napi::CallbackInfo& info) {
    engine_->Remove(static_cast<uint64_t>(SizeArgument(info, 0, "link")));
  }

  std::unique_ptr<NbdEvents> events_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace

Napi::Function DefineNbdDoor(Napi::Env env) { return NbdDoor::Define(env); }

Napi::Value ConnectUnix(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  const std::string path = PathArgument(info, 0, "path");
  sockaddr_un address{};
  if (path.size() >= sizeof(address.sun_path)) ThrowFailure(env, {ENAMETOOLONG, "connect"});
  address.sun_family = AF_UNIX;
  std::ranges::copy(path, address.sun_path);
  FileDescriptor socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (socket_fd.get() == -1) ThrowFailure(env, {errno, "socket"});
  const int result = RetryInterrupted([&] {
    return connect(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address));
  });
  if (result == -1) ThrowFailure(env, {errno, "connect"});
  return Napi::Number::New(env, socket_fd.Release());
}

}  // namespace imageio
