/** What a key, or an address without a key, may do. */
export const scopes = ['inference', 'admin'] as const
export type Scope = (typeof scopes)[number]
