import { endpoints, type openApiEndpoints } from '../../api/endpoints.ts'
import { openApi } from '../../api/openapi.ts'
import { version } from '../../version.ts'
import type { Handlers } from '../add-endpoints.ts'

/** The description of this API, made at the first request. */
export function openApiHandlers(): Handlers<typeof openApiEndpoints> {
  let document: ReturnType<typeof openApi> | null = null
  return {
    readOpenApi: () => {
      document ??= openApi(endpoints, version)
      return document
    },
  }
}
