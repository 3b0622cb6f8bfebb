import type { NodeView } from '../../fleet/node.ts'

/** One log line. */
export interface FleetEvent {
  readonly level: 'warn' | 'info'
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

type Nodes = ReadonlyMap<string, NodeView>

/** The log lines for nodes that departed, returned, or changed their health between two snapshots. */
export function fleetEvents(former: Nodes, current: Nodes): FleetEvent[] {
  return [...current].flatMap(([name, node]) => {
    const before = former.get(name)
    const event = before === node ? null : eventOf(before, node)
    return event ? [event] : []
  })
}

function eventOf(before: NodeView | undefined, { name: node, departed, status, spec }: NodeView) {
  const reason = departed?.reason ?? status?.reason
  if (departed && !before?.departed) return warn('node departed', { node, reason, models: models(status) })
  if (departed) return null
  if (before?.departed) return info('node returned', { node, url: spec.url })
  const [was, is] = [before?.status?.health, status?.health]
  if (is === 'down' && was !== 'down') return warn('node down', { node, reason, models: models(status) })
  if (is === 'slow' && was !== 'slow') return warn('node slow', { node, reason })
  return is === 'up' && (was === 'down' || was === 'slow') ? info('node up', { node, reason }) : null
}

function models(status: NodeView['status']): number {
  return status?.models.length ?? 0
}

function warn(message: string, fields: FleetEvent['fields']): FleetEvent {
  return { level: 'warn', message, fields }
}

function info(message: string, fields: FleetEvent['fields']): FleetEvent {
  return { level: 'info', message, fields }
}
