import { suiteWithoutEtcd } from '../scenarios/absence.ts'

suiteWithoutEtcd(10 * 60_000)
