public import CUDA
import Glibc
public import Region

/// Memory of a GPU's own for a region: the GPU polls it without crossing the bus, and a network card that takes it as a
/// dma-buf writes and reads it without the host's memory.
///
/// This process reaches it by the driver's copies.
public final class GPURegionMemory: RegionMemory, @unchecked Sendable {
  // Immutable after init; the driver takes copies from any thread.
  public let address: UInt64
  public let count: Int
  public let dmaBuffer: Int32?
  /// Why there is no dma-buf, where there is none.
  public let exportFailure: String?
  let context: GPUContext
  private let memory: GPUMemory
  private let start: Int

  /// Takes as much as a region of `layout` needs.
  ///
  /// - Throws: ``DeviceError`` where the GPU has not as much.
  public init(_ context: GPUContext, layout: RegionLayout) throws(DeviceError) {
    self.context = context
    // What is exported is in whole pages, as large ones as Linux has on any machine with such a GPU.
    let page = 64 << 10
    count = (layout.regionSize + page - 1) / page * page
    do throws(CUDAError) {
      memory = try GPUMemory(context, count: count + page)
      try memory.clear()
    } catch {
      throw DeviceError(.gpu("the region cannot lie in its memory: \(error)"))
    }
    start = Int(-Int64(bitPattern: memory.address) & Int64(page - 1))
    address = memory.address + UInt64(start)
    do throws(CUDAError) {
      dmaBuffer = try memory.export(from: start, count: count)
      exportFailure = nil
    } catch {
      dmaBuffer = nil
      exportFailure = "\(error)"
    }
  }

  deinit {
    if let dmaBuffer { close(dmaBuffer) }
  }

  public func store(_ bytes: UnsafeRawBufferPointer, at offset: Int) throws(RegionError) {
    do throws(CUDAError) { try memory.store(bytes, at: start + offset) } catch { throw Self.failure(error) }
  }

  public func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int) throws(RegionError) {
    do throws(CUDAError) { try memory.load(into: bytes, at: start + offset) } catch { throw Self.failure(error) }
  }

  private static func failure(_ error: CUDAError) -> RegionError { RegionError("of a GPU", .device("\(error)")) }
}
