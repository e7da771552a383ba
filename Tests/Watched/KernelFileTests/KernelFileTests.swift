import CCompression
import Foundation
import Memory
import Testing

@testable import KernelFile

/// Kernels in their own files: packed in each way, and made to hurt.
struct KernelFileTests {
  /// A file of a test's own.
  private final class Scratch {
    let path = FileManager.default.temporaryDirectory.appendingPathComponent("grass-kernel-\(UUID().uuidString)").path
    init(_ bytes: [UInt8]) throws { try Data(bytes).write(to: URL(fileURLWithPath: path)) }
    deinit { unlink(path) }
  }

  /// A vmlinux with one segment, whose bytes are those of `text`.
  private func vmlinux(_ text: [UInt8], at address: UInt64 = 0xffff_ffff_8100_0000, type: UInt16 = 2) -> [UInt8] {
    var file = [UInt8](repeating: 0, count: 64 + 56)
    func put<Number: FixedWidthInteger>(_ number: Number, _ place: Int) {
      withUnsafeBytes(of: number.littleEndian) { file.replaceSubrange(place..<place + $0.count, with: $0) }
    }
    file.replaceSubrange(0..<6, with: [0x7f, 0x45, 0x4c, 0x46, 2, 1])
    put(type, 16)
    put(62 as UInt16, 18)
    put(64 as UInt64, 32)
    put(56 as UInt16, 54)
    put(1 as UInt16, 56)
    put(1 as UInt32, 64)
    put(120 as UInt64, 72)
    put(address, 80)
    put(0x100_0000 as UInt64, 88)
    put(UInt64(text.count), 96)
    put(UInt64(text.count), 104)
    return file + text
  }

  /// A bzImage around a packed kernel.
  private func bzImage(_ packed: [UInt8], size: Int) -> [UInt8] {
    var file = [UInt8](repeating: 0, count: 1024 + 256)
    func put(_ number: Int, _ place: Int) {
      withUnsafeBytes(of: UInt32(number).littleEndian) { file.replaceSubrange(place..<place + 4, with: $0) }
    }
    file[0x1f1] = 1
    file.replaceSubrange(0x202..<0x206, with: Array("HdrS".utf8))
    put(256, 0x248)
    put(packed.count + 4, 0x24c)
    file += packed
    put(0, 0)
    return file + withUnsafeBytes(of: UInt32(size).littleEndian) { Array($0) }
  }

  private func xz(_ bytes: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: bytes.count + 65536) { buffer, count in
      _ = lzma_easy_buffer_encode(
        6, LZMA_CHECK_CRC32, nil, bytes, bytes.count, buffer.baseAddress, &count, buffer.count)
    }
  }

  private func zstd(_ bytes: [UInt8]) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: bytes.count + 65536) { buffer, count in
      count = ZSTD_compress(buffer.baseAddress, buffer.count, bytes, bytes.count, 3)
    }
  }

  private let text = (0..<70_000).map { UInt8(truncatingIfNeeded: $0 &* 7 ^ $0 >> 8) }

  private func read(_ bytes: [UInt8]) throws -> [UInt8] {
    let file = try Scratch(bytes)
    let memory = try KernelFile.open(file.path)
    #expect(memory.segments == [MemorySegment(start: PhysicalAddress(0x100_0000), count: UInt64(text.count))])
    return try memory.read(PhysicalAddress(0x100_0000), count: text.count)
  }

  @Test func kernelsAreReadPackedAndUnpacked() throws {
    let kernel = vmlinux(text)
    #expect(try read(kernel) == text)
    #expect(try read(bzImage(xz(kernel), size: kernel.count)) == text)
    #expect(try read(bzImage(zstd(kernel), size: kernel.count)) == text)
    // gzip's own tool wrote this one.
    let plain = try Scratch(kernel)
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/bin/gzip")
    process.arguments = ["-c", plain.path]
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let packed = Array(pipe.fileHandleForReading.readDataToEndOfFile())
    process.waitUntilExit()
    #expect(try read(bzImage(packed, size: kernel.count)) == text)
  }

  @Test func whatIsNoKernelIsSaidSo() throws {
    let kernel = vmlinux(text)
    func reason(_ bytes: [UInt8]) throws -> String {
      let file = try Scratch(bytes)
      do {
        _ = try KernelFile.open(file.path)
        return "opened"
      } catch { return "\(error)" }
    }
    let packed = xz(kernel)
    var damaged = packed
    damaged[damaged.count / 2] ^= 0x10
    #expect(try reason(bzImage(damaged, size: kernel.count)).contains("xz stream is damaged"))
    #expect(try reason(bzImage(Array(packed.prefix(packed.count / 2)), size: kernel.count)).contains("damaged"))
    #expect(try reason(bzImage(packed, size: kernel.count - 1)).contains("damaged"))
    #expect(try reason(bzImage(packed, size: Int(UInt32.max))).contains("4294967295 bytes"))
    #expect(try reason(Array(bzImage(packed, size: kernel.count).dropLast(100))).contains("cut short"))
    #expect(try reason(bzImage([0x02, 0x21, 0x4c, 0x18] + packed, size: 9)).contains("lz4"))
    #expect(try reason(bzImage([UInt8](repeating: 9, count: 99), size: 9)).contains("no known form"))
    #expect(try reason(bzImage(xz(text), size: text.count)).contains("no kernel"))
    // Programs are linked elsewhere; cores are memory, but no kernel's file.
    #expect(try reason(vmlinux(text, at: 0x40_0000)).contains("not a core"))
    #expect(try reason(vmlinux(text, type: 4)).contains("neither a bzImage nor a vmlinux"))
    #expect(try reason(Array("#!/bin/sh\n".utf8)).contains("neither"))
    #expect(throws: KernelFileError.self) { try KernelFile.open("/nonexistent") }
    #expect(throws: KernelFileError.self) { try KernelFile.open("/tmp") }
  }
}
