import { enterNetwork } from '../support/network.ts'
import { partitions } from './partitions.ts'

enterNetwork()
partitions(5000)
