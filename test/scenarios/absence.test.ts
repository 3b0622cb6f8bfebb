import { suiteWithoutEtcd } from '../suites/absence.ts'

suiteWithoutEtcd(24_000)
