/**
 * What runs of node:http. Imported as an ES module it is dear: the loader reads each of its exports, and with
 * WebSocket it loads undici: 14 MB, and more than 50 ms of each start.
 */
export const { Agent, createServer, maxHeaderSize, request, STATUS_CODES } =
  process.getBuiltinModule('node:http')
