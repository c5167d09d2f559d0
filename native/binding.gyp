{
  'targets': [
    {
      'target_name': 'imageio',
      'sources': [
        'src/addon.cc',
        'src/addon_data.cc',
        'src/allocate.cc',
        'src/arguments.cc',
        'src/block_device.cc',
        'src/data_ranges.cc',
        'src/digest.cc',
        'src/memory.cc',
        'src/open.cc',
        'src/read_fully.cc',
        'src/status.cc',
        'src/system_call_worker.cc',
        'src/tcp_socket.cc',
        'src/transfer.cc',
        'src/transport/channel.cc',
        'src/transport/client_hello.cc',
        'src/transport/connection.cc',
        'src/transport/door.cc',
        'src/transport/head_parser.cc',
        'src/transport/inbound.cc',
        'src/transport/listener.cc',
        'src/transport/opening.cc',
        'src/transport/outbound.cc',
        'src/transport/poller.cc',
        'src/transport/tls_channel.cc',
        'src/transport/transport.cc',
        'src/unix_socket.cc',
      ],
      # "except_all" also turns std::exception (no memory) into a JavaScript error at every border.
      'dependencies': [
        '<!(node -p "require(\'node-addon-api\').targets"):node_addon_api_except_all',
      ],
      'defines': [
        'NAPI_VERSION=9',
        # A worker thread may be terminated while a call is under way; its promise has no one left.
        'NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      ],
      'cflags!': ['-O3'],
      'cflags_cc!': ['-std=gnu++17', '-std=gnu++20'],
      'cflags': ['-O2', '-Wall', '-Wextra', '-Werror', '-Wno-unused-parameter'],
      'cflags_cc': ['-std=c++20', '-fvisibility=hidden'],
    },
  ],
}
