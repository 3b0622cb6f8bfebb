import { type FileHandle, open, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/**
 * Creates a file that only its owner may read, fills it and syncs it. A file of that name is removed first, and never
 * followed where it is a link. On failure nothing is left behind. The caller then gives the file its real name with
 * `rename` or `link`: under that name it is whole at any moment (docs/decisions/0014-atomic-writes.md).
 *
 * @returns the open file
 */
export async function createFile(
  path: string,
  fill: (file: FileHandle) => Promise<void>,
): Promise<FileHandle> {
  await rm(path, { force: true })
  const file = await open(path, 'wx', 0o600)
  try {
    await fill(file)
    await file.sync()
    return file
  } catch (error) {
    await file.close()
    await rm(path, { force: true }).catch(() => {}) // on a full disk, half a file takes the space of the next try
    throw error
  }
}

/** A new name of `path` is on the disk only once its directory is. */
export async function syncDirectoryOf(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
