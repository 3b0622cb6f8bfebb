import { suiteWithoutEtcd } from './absence.ts'

suiteWithoutEtcd(60_000)
