import { partitions } from '../faults/partitions.ts'
import { enterNetwork } from '../support/network.ts'

enterNetwork()
partitions(60_000)
