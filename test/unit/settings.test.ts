import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { loadSettings, SettingsError, unknownVariables } from '../../lib/settings.ts'

test('the grace and the drain limit of a stop are durations with a unit, of a day at most', () => {
  assert.deepEqual(loadSettings({ grace: '0s', drain: '2m' }).patience, { graceMs: 0, drainMs: 120_000 })
  for (const drain of ['30', 'soon', '25h'])
    assert.throws(
      () => loadSettings({ drain }),
      (error) => error instanceof SettingsError && /^--drain: /.test(error.message),
    )
})

suite('unknown environment variables', () => {
  /** What Kubernetes sets in every container beside a Service with this name and port. */
  const serviceLinks = (service: string, port: number) => {
    const address = `tcp://10.96.0.17:${port}`
    return {
      [`${service}_SERVICE_HOST`]: '10.96.0.17',
      [`${service}_SERVICE_PORT`]: `${port}`,
      [`${service}_SERVICE_PORT_HTTP`]: `${port}`,
      [`${service}_PORT`]: address,
      [`${service}_PORT_${port}_TCP`]: address,
      [`${service}_PORT_${port}_TCP_PROTO`]: 'tcp',
      [`${service}_PORT_${port}_TCP_PORT`]: `${port}`,
      [`${service}_PORT_${port}_TCP_ADDR`]: '10.96.0.17',
    }
  }

  for (const service of ['LLAMERO', 'LLAMERO_ADMIN', 'LLAMERO_ETCD', 'LLAMERO_NAME', 'LLAMERO_LISTEN'])
    test(`the links of a Service named ${service} are returned for a warning and end no start (334)`, () => {
      const links = serviceLinks(service, 11434)
      assert.deepEqual(unknownVariables({ ...links, PATH: '/bin' }), Object.keys(links))
    })

  test('a misspelt name with a value that fits the setting ends the start (334)', () => {
    for (const [name, value, meant] of [
      ['LLAMERO_LISTN', '0.0.0.0:11434', 'LLAMERO_LISTEN'],
      ['LLAMERO_ETCDS', 'http://a:2379,http://b:2379', 'LLAMERO_ETCD'],
      ['LLAMERO_LOGLEVEL', 'debug', 'LLAMERO_LOG_LEVEL'],
      ['LLAMERO_CLUSTERS', 'blue', 'LLAMERO_CLUSTER'],
      ['LLAMERO_ETCD_CRT', '/etc/ssl/us.pem', 'LLAMERO_ETCD_CERT'],
    ] as const)
      assert.throws(
        () => unknownVariables({ [name]: value }),
        (error) => error instanceof SettingsError && error.message.includes(`did you mean ${meant}?`),
        name,
      )
  })

  test('a name near to a setting with a value that does not fit is returned for a warning (334)', () => {
    const variables = { LLAMERO_LISTN: 'tcp://10.0.0.1:80', LLAMERO_DRAINS: '17', LLAMERO_LOGLEVEL: '3' }
    assert.deepEqual(unknownVariables(variables), Object.keys(variables))
  })
})
