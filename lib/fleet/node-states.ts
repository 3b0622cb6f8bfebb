/** What an operator may make of a node. */
export const nodeStates = ['active', 'cordoned', 'off'] as const
