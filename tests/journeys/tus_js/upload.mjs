// Sends one photo with tus-js-client, as an app would. What to send is the one argument, JSON:
// `endpoint`, `file`, `token`, `chunkSize`, `metadata`; further `options` of tus-js-client as they are. With `storage`, a
// file of URLs, it goes on with what an earlier process began; with `dieAfter` it is killed once so many bytes have left.
// Prints the photo's URL.
import { createReadStream } from 'node:fs'
import tus from 'tus-js-client'

const given = JSON.parse(process.argv[2])
const upload = new tus.Upload(createReadStream(given.file), {
  endpoint: given.endpoint,
  headers: { Authorization: `Bearer ${given.token}` },
  metadata: given.metadata,
  chunkSize: given.chunkSize,
  ...(given.storage && { urlStorage: new tus.FileUrlStorage(given.storage) }),
  ...given.options,
  onProgress(sent) {
    if (given.dieAfter !== undefined && sent > given.dieAfter) process.kill(process.pid, 'SIGKILL')
  },
  onError(error) {
    console.error(String(error))
    process.exit(1)
  },
  onSuccess() {
    console.log(upload.url)
  },
})
const [previous] = await upload.findPreviousUploads()
if (previous) upload.resumeFromPreviousUpload(previous)
upload.start()
