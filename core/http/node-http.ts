/**
 * What runs of node:http. Imported as an ES module it is dear: the loader reads each of its exports, and with
 * WebSocket it loads undici, a tenth of a second and 14 MB of each server.
 */
export const { Agent, createServer, maxHeaderSize, request, STATUS_CODES } =
  process.getBuiltinModule('node:http')
