import KernelInfo
package import Memory
package import Paging

extension AddressSpace {
  /// The zero-terminated strings at `addresses`, each up to `limit` bytes; none for a null pointer.
  ///
  /// Cost: one round trip where all strings are shorter than 64 bytes and cross no page, else one more for each page.
  package func strings(at addresses: [VirtualAddress], limit: Int = 256) -> [Result<[UInt8], MemoryFault>] {
    var results = [Result<[UInt8], MemoryFault>](repeating: .success([]), count: addresses.count)
    var open = addresses.indices.filter { addresses[$0].rawValue != 0 }
    var texts = [[UInt8]](repeating: [], count: addresses.count)
    var piece = 64
    while !open.isEmpty {
      var batch = ReadBatch<VirtualAddress>()
      for index in open {
        let next = addresses[index] + texts[index].count
        // Up to the page's end: what follows the string need not be readable.
        batch.add(next, count: min(piece, 4096 - Int(next.rawValue & 4095), limit - texts[index].count))
      }
      read(&batch)
      var unfinished: [Int] = []
      for (position, index) in open.enumerated() {
        do throws(MemoryFault) {
          let reader = try batch.reader(position)
          let part = try reader.cString(0)
          texts[index] += part
          if part.count == reader.count, texts[index].count < limit {
            unfinished.append(index)
          } else {
            results[index] = .success(texts[index])
          }
        } catch {
          results[index] = .failure(error)
        }
      }
      open = unfinished
      piece = 4096
    }
    return results
  }
}
