import { suiteWithoutEtcd } from './absence.ts'

suiteWithoutEtcd(24_000)
