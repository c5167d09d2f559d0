import { Type } from 'typebox'
import { answers, found, IdParams, listOf, LIST_PARAMETERS, parametersOf } from '../context.js'
import type { Context } from '../context.js'
import { ACTIONS, transferOf, TransferSchema } from '../entities/transfer.js'
import { followTransfer } from '../follow.js'
import { followOf, integerOf } from '../parameters.js'
import { Action, DONE } from '../schemas.js'
import { searched } from '../search/match.js'
import { Representation } from '../wire.js'
import { newTransferOf, NewTransferSchema } from './new-transfer.js'

/** Proxies on the way give up after a minute without an answer, mostly. */
const MAX_WAIT_SECONDS = 50

const EFFECTS = {
  cancel: 'Ends the transfer; what was uploaded is removed',
  extend: 'Tells that the client is alive',
  finalize: 'Ends the transfer; what was uploaded is verified',
  pause: 'Pauses an upload',
  resume: 'Goes on after a pause; poll until the phase is not `resuming`',
} as const

const WAIT_PARAMETERS = {
  wait: Type.Optional(
    Type.String({
      description: `Seconds, at most ${MAX_WAIT_SECONDS}: answer when something changed, at the latest after so long`,
    }),
  ),
  phase: Type.Optional(
    Type.String({ description: 'With `wait`: answer when the phase is another, at once if it is' }),
  ),
  follow: LIST_PARAMETERS.follow,
}

export function transferRoutes(context: Context): void {
  const { app, settings, links, streams } = context
  const { service } = settings
  app.route({
    method: 'GET',
    url: '/imagetransfers',
    schema: {
      summary: 'Image transfers',
      description: 'Those that ended are among them, for some minutes.',
      querystring: Type.Object(LIST_PARAMETERS),
      response: answers({ 200: listOf('image_transfers', 'image_transfer', TransferSchema) }),
    },
    handler: async (request) => {
      const { max = '', follow } = parametersOf(request)
      const transfers = searched(await service.transfers(), {}, { max })
      const show = await followTransfer(context, followOf(follow))
      return new Representation('image_transfers', { image_transfer: transfers.map(show) })
    },
  })
  app.route({
    method: 'POST',
    url: '/imagetransfers',
    schema: {
      summary: 'Begins a transfer',
      description: 'Poll it until its phase is `transferring`, then move data at `transfer_url`.',
      body: NewTransferSchema,
      response: answers({ 201: TransferSchema }, 400, 404, 409),
    },
    handler: async ({ body, user }, reply) => {
      const transfer = await service.addTransfer(await newTransferOf(body, service), user)
      void reply.code(201).header('location', links.to('imagetransfers', transfer.id))
      return new Representation('image_transfer', transferOf(transfer, links))
    },
  })
  app.route({
    method: 'GET',
    url: '/imagetransfers/:id',
    schema: {
      summary: 'One transfer, at once or when it changed',
      params: IdParams,
      querystring: Type.Object(WAIT_PARAMETERS),
      response: answers({ 200: TransferSchema }, 404),
    },
    handler: async (request, reply) => {
      const { id } = request.params
      const { wait, phase, follow } = parametersOf(request)
      const seconds = Math.min(integerOf(wait) ?? 0, MAX_WAIT_SECONDS)
      const before = found('image transfer', await service.transfer(id))
      if (seconds > 0 && (phase === undefined || before.phase === phase)) {
        const gone = new AbortController()
        reply.raw.once('close', () => gone.abort())
        const isAwaited = (now: typeof before): boolean =>
          phase === undefined
            ? now.phase !== before.phase ||
              now.transferred !== before.transferred ||
              now.isActive !== before.isActive
            : now.phase !== phase
        await streams.wait(service, id, isAwaited, {
          ms: seconds * 1000,
          address: request.ip,
          gone: gone.signal,
        })
      }
      const transfer = found('image transfer', await service.transfer(id))
      const show = await followTransfer(context, followOf(follow))
      return new Representation('image_transfer', show(transfer))
    },
  })
  for (const action of ACTIONS) {
    app.route({
      method: 'POST',
      url: `/imagetransfers/:id/${action}`,
      schema: {
        summary: EFFECTS[action],
        description: 'A body (`<action/>`, `{}`) may be there and says nothing.',
        params: IdParams,
        response: answers({ 200: Action }, 400, 404, 409),
      },
      handler: async ({ params, user }) => {
        await service.act(params.id, action, user)
        return new Representation('action', DONE)
      },
    })
  }
}
