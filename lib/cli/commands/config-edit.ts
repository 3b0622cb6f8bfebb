import type { ConfigAnswer } from '../../api/config.ts'
import type { DocumentFault } from '../../fleet/documents/contents.ts'
import type { AdminClient } from '../admin-client.ts'
import { putText, showDiff } from '../changes/config-text.ts'
import { faultsOf, requireValid } from '../changes/document-file.ts'
import { EditDraft } from '../changes/draft.ts'
import { CliFailure, exits } from '../cli-failure.ts'
import type { Invocation } from '../invocation.ts'

/** Begins a line that llamero adds and never stores. */
const mark = '#~'
const header = [
  `${mark} The settings of the whole cluster. They are applied when you save and close the editor.`,
  `${mark} Lines that begin with "${mark}" are left out. "llamero config get" shows every field and its default.`,
]

/**
 * Edits the stored text (docs/etcd.md#validation): opened again with its faults on top until it is valid, then written unless
 * the stored text has changed meanwhile.
 *
 * @throws Failure (invalid) when an invalid text is saved again without a change; (conflict) with both changes
 *   shown. In both cases the text is kept in its file.
 */
export async function editConfig(invocation: Invocation, timeoutMs: number): Promise<void> {
  const { terminal } = invocation
  const admin = invocation.admin(timeoutMs)
  const base = await admin.get('/config')
  const draft = await EditDraft.create('llamero-config.yaml')
  try {
    const text = await editUntilValid(draft, base.text ?? '', invocation)
    if (text === null) return terminal.say('nothing was changed')
    await putText(admin, '/config', text, base.modified === null ? null : base).catch(async (error) => {
      await draft.keep(text)
      throw await explained(error, { admin, base, text, file: draft.file }, invocation)
    })
    showDiff(invocation, 'config', { stored: base.text ?? '', new: text })
    terminal.say('config: written')
  } finally {
    await draft.discard()
  }
}

/** The edited text, which is valid; null when it has not changed. */
async function editUntilValid(
  draft: EditDraft,
  base: string,
  invocation: Invocation,
): Promise<string | null> {
  const { editor, signal } = invocation.context
  let text = base
  let faults: readonly DocumentFault[] = []
  for (;;) {
    const edited = unmarked(await draft.edit(marked(text, faults), editor))
    signal.throwIfAborted()
    if (edited === base || edited.trim() === '') return null
    if (faults.length > 0 && edited === text) {
      await draft.keep(text)
      await requireValid(text, 'config', draft.file, invocation)
    }
    text = edited
    faults = await faultsOf(text, 'config')
    if (faults.length === 0) return text
  }
}

/** The text below the lines that llamero adds; line numbers of faults count from the start of the file. */
function marked(text: string, faults: readonly DocumentFault[]): string {
  const above = header.length + faults.length
  const lines = faults.map(({ path, line, message, hint }) => {
    const where = [line === null ? '' : `line ${line + above}: `, path ? `${path}: ` : ''].join('')
    return `${mark} NOT WRITTEN: ${where}${message}${hint ? ` (${hint})` : ''}`
  })
  return `${[...lines, ...header].map((line) => line.replaceAll('\n', ' ')).join('\n')}\n${text}`
}

function unmarked(text: string): string {
  return text
    .split(/(?<=\n)/)
    .filter((line) => !line.startsWith(mark))
    .join('')
}

interface Attempt {
  readonly admin: AdminClient
  readonly base: ConfigAnswer
  readonly text: string
  /** The file that keeps the text. */
  readonly file: string
}

/** The failure of a write: the text is kept, and on a conflict both changes are shown. */
async function explained(error: unknown, { admin, base, text, file }: Attempt, invocation: Invocation) {
  if (!(error instanceof CliFailure)) return error
  const kept = `yours is kept in ${file}`
  if (error.exit !== exits.conflict)
    return new CliFailure(error.exit, `${error.message}; ${kept}`, error.hint, { cause: error })
  const theirs = await admin.get('/config')
  showDiff(invocation, 'config', { base: base.text ?? '', yours: text })
  showDiff(invocation, 'config', { base: base.text ?? '', theirs: theirs.text ?? '' })
  return new CliFailure(
    exits.conflict,
    `the config has changed meanwhile; ${kept}`,
    `llamero config diff ${file}, then llamero config apply -f ${file}`,
    { cause: error },
  )
}
