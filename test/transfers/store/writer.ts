/** Commits disks until it is killed, and tells the id of each once it is committed. */
import { SqliteStore } from '../../../transfers/store/sqlite-store.js'
import { someDisk } from '../records.js'

const store = await SqliteStore.open(process.argv[2] ?? '')
for (;;) {
  const disk = someDisk()
  await store.transaction((records) => records.addDisk(disk))
  process.send?.(disk.id)
  await new Promise((resolve) => setImmediate(resolve))
}
