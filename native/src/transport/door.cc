#include <napi.h>
#include <openssl/rand.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "../addon_data.h"
#include "../arguments.h"
#include "../event_queue.h"
#include "../functions.h"
#include "endpoint.h"
#include "transport.h"

namespace imageio {

namespace {

using transport::ConnectionOptions;
using transport::Event;
using transport::ReadOrder;
using transport::Route;
using transport::TlsClientSettings;
using transport::TlsContext;
using transport::TlsSettings;
using transport::Transport;
using transport::WriteOrder;

constexpr size_t kTokenBytes = 16;

std::string RandomToken() {
  std::array<uint8_t, kTokenBytes> bytes{};
  if (RAND_bytes(bytes.data(), bytes.size()) != 1) throw std::bad_alloc();
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string token;
  for (const uint8_t byte : bytes) {
    token += kDigits[byte >> 4];
    token += kDigits[byte & 15];
  }
  return token;
}

uint64_t NumberArgument(const Napi::CallbackInfo& info, size_t index, const char* name) {
  return static_cast<uint64_t>(SizeArgument(info, index, name));
}

Napi::Number ToNumber(Napi::Env env, uint64_t number) {
  return Napi::Number::New(env, static_cast<double>(number));
}

using FrontEvents = EventQueue<Event, transport::EventSink>;

void Tell(Napi::Env env, const Napi::Function& callback, const Event& event) {
  callback.Call({Napi::Number::New(env, static_cast<int>(event.kind)),
                 ToNumber(env, event.connection), ToNumber(env, event.listener),
                 Napi::Number::New(env, static_cast<double>(event.value)),
                 Napi::Number::New(env, event.error), Napi::String::New(env, event.text)});
}

// See native/transport.ts.
class FrontDoor final : public Napi::ObjectWrap<FrontDoor> {
 public:
  static Napi::Function Define(Napi::Env env) {
    return DefineClass(
        env, "FrontDoor",
        {InstanceMethod<&FrontDoor::ListenOnTcp>("listenTcp"),
         InstanceMethod<&FrontDoor::ListenOnUnix>("listenUnix"),
         InstanceMethod<&FrontDoor::Trust>("trust"), InstanceMethod<&FrontDoor::DialTcp>("dialTcp"),
         InstanceMethod<&FrontDoor::DialUnix>("dialUnix"),
         InstanceMethod<&FrontDoor::SetTls>("setTls"),
         InstanceMethod<&FrontDoor::StopListening>("stopListening"),
         InstanceMethod<&FrontDoor::Admit>("admit"), InstanceMethod<&FrontDoor::Cut>("cut"),
         InstanceMethod<&FrontDoor::Read>("read"),
         InstanceMethod<&FrontDoor::CancelRead>("cancelRead"),
         InstanceMethod<&FrontDoor::WithholdNext>("withholdNext"),
         InstanceMethod<&FrontDoor::HasEnded>("hasEnded"),
         InstanceMethod<&FrontDoor::Write>("write"),
         InstanceMethod<&FrontDoor::Received>("received"), InstanceMethod<&FrontDoor::Sent>("sent"),
         InstanceMethod<&FrontDoor::Close>("close"), InstanceAccessor<&FrontDoor::Token>("token")});
  }

  explicit FrontDoor(const Napi::CallbackInfo& info) : Napi::ObjectWrap<FrontDoor>(info) {
    if (!info[0].IsFunction()) throw Napi::TypeError::New(info.Env(), "onEvent must be a function");
    const unsigned threads = ThreadsArgument(info, 1);
    token_ = RandomToken();
    events_ = std::make_unique<FrontEvents>(info.Env(), info[0].As<Napi::Function>(),
                                            "imageio.front", Tell);
    try {
      transport_ = std::make_unique<Transport>(*events_, threads, token_);
    } catch (...) {
      events_->Close();
      throw;
    }
  }

  // The environment ends, or nobody knows the front any more.
  ~FrontDoor() override { End(); }

 private:
  void End() {
    transport_.reset();
    if (events_ != nullptr) events_->Close();
  }

  Transport& Front(const Napi::CallbackInfo& info) {
    if (transport_ == nullptr) throw Napi::Error::New(info.Env(), "the front is closed");
    return *transport_;
  }

  // Nothing where `index` has no settings.
  static std::shared_ptr<TlsContext> TlsArgument(const Napi::CallbackInfo& info, size_t index) {
    const Napi::Value value = info[index];
    if (value.IsUndefined()) return nullptr;
    const auto object = value.As<Napi::Object>();
    const auto text = [&object](const char* name) {
      return object.Get(name).As<Napi::String>().Utf8Value();
    };
    std::string error;
    auto context = TlsContext::Create(
        TlsSettings{.key = text("key"), .cert = text("cert"), .ciphers = text("ciphers")}, &error);
    if (context == nullptr) throw Napi::Error::New(info.Env(), error);
    return context;
  }

  Napi::Value Listen(const Napi::CallbackInfo& info, FileDescriptor socket, const char* failed_call,
                     std::shared_ptr<TlsContext> tls, std::chrono::milliseconds timeout) {
    const Napi::Env env = info.Env();
    if (socket.get() == -1) ThrowFailure(env, {errno, failed_call});
    const uint16_t port = transport::PortOf(socket.get());
    Napi::Object result = Napi::Object::New(env);
    result["listener"] =
        ToNumber(env, Front(info).Listen(std::move(socket), std::move(tls), timeout));
    result["port"] = Napi::Number::New(env, port);
    return result;
  }

  Napi::Value ListenOnTcp(const Napi::CallbackInfo& info) {
    const std::string address = StringArgument(info, 0, "address");
    const auto port = static_cast<uint16_t>(NumberArgument(info, 1, "port"));
    const std::chrono::milliseconds timeout(SizeArgument(info, 2, "handshakeTimeout"));
    auto tls = TlsArgument(info, 3);
    const char* call = "";
    FileDescriptor socket = transport::ListenTcp(address, port, &call);
    return Listen(info, std::move(socket), call, std::move(tls), timeout);
  }

  Napi::Value ListenOnUnix(const Napi::CallbackInfo& info) {
    const std::string path = StringArgument(info, 0, "path");
    const char* call = "";
    FileDescriptor socket = transport::ListenUnix(path, &call);
    return Listen(info, std::move(socket), call, nullptr, std::chrono::milliseconds(0));
  }

  // What connections are dialed with, for as long as somebody knows it.
  Napi::Value Trust(const Napi::CallbackInfo& info) {
    const auto object = info[0].As<Napi::Object>();
    const auto text = [&object](const char* name) {
      return object.Get(name).As<Napi::String>().Utf8Value();
    };
    std::string error;
    auto context = TlsContext::Create(TlsClientSettings{.authorities = text("authorities"),
                                                        .key = text("key"),
                                                        .cert = text("cert"),
                                                        .ciphers = text("ciphers")},
                                      &error);
    if (context == nullptr) throw Napi::Error::New(info.Env(), error);
    return Napi::External<std::shared_ptr<TlsContext>>::New(
        info.Env(), new std::shared_ptr<TlsContext>(std::move(context)),
        [](Napi::Env /*env*/, std::shared_ptr<TlsContext>* trust) { delete trust; });
  }

  // The connection's number. Addresses, port, and for TLS: trust, name to ask for, name to verify.
  Napi::Value DialTcp(const Napi::CallbackInfo& info) {
    const auto addresses = info[0].As<Napi::Array>();
    const auto port = static_cast<uint16_t>(NumberArgument(info, 1, "port"));
    Route route;
    for (uint32_t index = 0; index < addresses.Length(); index++) {
      const Napi::Value address = addresses[index];
      const auto endpoint = transport::TcpEndpoint(address.As<Napi::String>().Utf8Value(), port);
      if (!endpoint) throw Napi::TypeError::New(info.Env(), "addresses must be numeric");
      route.endpoints.push_back(*endpoint);
    }
    std::shared_ptr<TlsContext> tls;
    if (!info[2].IsUndefined()) {
      tls = *info[2].As<Napi::External<std::shared_ptr<TlsContext>>>().Data();
      route.peer = {.server_name = StringArgument(info, 3, "serverName"),
                    .host = StringArgument(info, 4, "host")};
    }
    return ToNumber(info.Env(), Front(info).Dial(std::move(route), std::move(tls)));
  }

  Napi::Value DialUnix(const Napi::CallbackInfo& info) {
    const auto endpoint = transport::UnixEndpoint(StringArgument(info, 0, "path"));
    if (!endpoint) ThrowFailure(info.Env(), {ENAMETOOLONG, "connect"});
    Route route;
    route.endpoints.push_back(*endpoint);
    return ToNumber(info.Env(), Front(info).Dial(std::move(route), nullptr));
  }

  void SetTls(const Napi::CallbackInfo& info) {
    Front(info).SetTls(NumberArgument(info, 0, "listener"), TlsArgument(info, 1));
  }

  void StopListening(const Napi::CallbackInfo& info) {
    if (transport_ != nullptr) transport_->StopListening(NumberArgument(info, 0, "listener"));
  }

  std::shared_ptr<transport::Connection> Find(const Napi::CallbackInfo& info) {
    if (transport_ == nullptr) return nullptr;
    return transport_->Find(NumberArgument(info, 0, "connection"));
  }

  // Gives `order` to the connection and wants a turn for it; false when nobody takes it.
  template <typename Order>
  Napi::Value Give(const Napi::CallbackInfo& info, Order order) {
    const auto connection = Find(info);
    const bool is_taken = connection != nullptr && order(*connection);
    if (is_taken) transport_->Enqueue(connection->id());
    return Napi::Boolean::New(info.Env(), is_taken);
  }

  void Admit(const Napi::CallbackInfo& info) {
    Give(info, [](auto& connection) { return connection.Admit(), true; });
  }

  void Cut(const Napi::CallbackInfo& info) {
    Give(info, [](auto& connection) { return connection.Cut(), true; });
  }

  void CancelRead(const Napi::CallbackInfo& info) {
    Give(info, [](auto& connection) { return connection.CancelRead(), true; });
  }

  // The caller keeps the memory of both alive until it is answered.
  Napi::Value Read(const Napi::CallbackInfo& info) {
    const uint64_t request = NumberArgument(info, 1, "request");
    const ByteBuffer target = BufferArgument(info, 2, "target");
    const ReadOrder order{.request = request,
                          .data = target.Data(),
                          .size = target.Length(),
                          .lingers = BooleanArgument(info, 3, "lingers")};
    return Give(info, [&order](auto& connection) { return connection.Read(order); });
  }

  Napi::Value Write(const Napi::CallbackInfo& info) {
    const uint64_t after = NumberArgument(info, 1, "after");
    const ByteBuffer chunk = BufferArgument(info, 2, "chunk");
    const WriteOrder order{.after = after, .data = chunk.Data(), .size = chunk.Length()};
    return Give(info, [&order](auto& connection) { return connection.Write(order); });
  }

  Napi::Value WithholdNext(const Napi::CallbackInfo& info) {
    const uint64_t after = NumberArgument(info, 1, "after");
    const auto connection = Find(info);
    return Napi::Boolean::New(info.Env(), connection != nullptr && connection->WithholdNext(after));
  }

  Napi::Value HasEnded(const Napi::CallbackInfo& info) {
    const auto connection = Find(info);
    return Napi::Boolean::New(info.Env(), connection == nullptr || connection->has_ended());
  }

  // Undefined when it is closed, as below.
  Napi::Value Received(const Napi::CallbackInfo& info) {
    const auto connection = Find(info);
    if (connection == nullptr) return info.Env().Undefined();
    return ToNumber(info.Env(), connection->received());
  }

  Napi::Value Sent(const Napi::CallbackInfo& info) {
    const auto connection = Find(info);
    if (connection == nullptr) return info.Env().Undefined();
    return ToNumber(info.Env(), connection->sent());
  }

  Napi::Value Token(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), token_);
  }

  void Close(const Napi::CallbackInfo& /*info*/) { End(); }

  std::string token_;
  std::unique_ptr<FrontEvents> events_;
  std::unique_ptr<Transport> transport_;
};

}  // namespace

Napi::Function DefineFrontDoor(Napi::Env env) { return FrontDoor::Define(env); }

}  // namespace imageio
