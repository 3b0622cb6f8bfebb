import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { CliFailure, exits } from '../cli-failure.ts'

/** A text that the user edits, in a file that only the user can read. */
export class EditDraft {
  readonly file: string
  #isKept = false

  private constructor(file: string) {
    this.file = file
  }

  /** @param name of the file; editors derive the language from its ending. */
  static async create(name: string): Promise<EditDraft> {
    return new EditDraft(join(await mkdtemp(join(tmpdir(), 'llamero-')), name))
  }

  /**
   * Opens the text in the editor; resolves to what was saved.
   *
   * @param editor a shell command, with or without arguments.
   * @throws Failure when the editor fails.
   */
  async edit(text: string, editor: string): Promise<string> {
    await writeFile(this.file, text, { mode: 0o600 })
    const child = spawn('sh', ['-c', `${editor} "$1"`, 'sh', this.file], { stdio: 'inherit' })
    const [code] = (await once(child, 'exit')) as [number | null]
    if (code !== 0)
      throw new CliFailure(
        exits.failure,
        `the editor (${editor}) ended with ${code === null ? 'a signal' : `exit code ${code}`}; nothing was written`,
        'set VISUAL or EDITOR',
      )
    return readFile(this.file, 'utf8')
  }

  /** Keeps the file with this text, because the text could not be stored. */
  async keep(text: string): Promise<void> {
    this.#isKept = true
    await writeFile(this.file, text, { mode: 0o600 })
  }

  /** Removes the file, unless `keep` was called. */
  async discard(): Promise<void> {
    if (!this.#isKept) await rm(dirname(this.file), { recursive: true, force: true })
  }
}
