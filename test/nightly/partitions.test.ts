import { partitions } from '../suites/partitions.ts'
import { enterNetwork } from '../support/network.ts'

enterNetwork()
partitions(60_000)
