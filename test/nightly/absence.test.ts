import { suiteWithoutEtcd } from '../suites/absence.ts'

suiteWithoutEtcd(10 * 60_000)
