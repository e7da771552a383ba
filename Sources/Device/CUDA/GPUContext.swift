import Glibc

/// A process's state on one GPU.
///
/// Everything made in it keeps it alive, and is gone before it is.
public final class GPUContext: @unchecked Sendable {
  // The driver's handle; the driver takes calls from any thread.
  public let gpu: GPU
  let driver: Driver
  private let handle: Driver.Handle?

  /// Makes a context.
  ///
  /// Cost: some hundred milliseconds.
  public init(_ gpu: GPU) throws(CUDAError) {
    driver = try Driver.shared.get()
    self.gpu = gpu
    var handle: Driver.Handle?
    // Waiting blocks a thread rather than spinning; host memory can be mapped.
    try driver.check("cuCtxCreate", driver.contextCreate(&handle, 0x04 | 0x08, gpu.device))
    self.handle = handle
  }

  deinit { _ = driver.contextDestroy(handle) }

  /// Runs `body` with this context as the calling thread's.
  func use<Result>(_ body: (Driver) throws(CUDAError) -> Result) throws(CUDAError) -> Result {
    try driver.check("cuCtxSetCurrent", driver.contextSetCurrent(handle))
    return try body(driver)
  }
}

/// Memory of a GPU's own.
///
/// Owns it.
public struct GPUMemory: ~Copyable {
  private let context: GPUContext
  /// Where the GPU sees it.
  public let address: UInt64
  public let count: Int

  public init(_ context: GPUContext, count: Int) throws(CUDAError) {
    self.context = context
    self.count = count
    address = try context.use { driver throws(CUDAError) in
      var address: UInt64 = 0
      try driver.check("cuMemAlloc", driver.memoryAllocate(&address, max(1, count)))
      return address
    }
  }

  /// Copies bytes into it.
  ///
  /// A program that runs meanwhile may see them in any order.
  public borrowing func store(_ bytes: UnsafeRawBufferPointer, at offset: Int = 0) throws(CUDAError) {
    precondition(offset >= 0 && bytes.count <= count - offset)
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    try context.use { driver throws(CUDAError) in
      try driver.check("cuMemcpyHtoD", driver.copyToDevice(address + UInt64(offset), base, bytes.count))
    }
  }

  /// Copies bytes out of it.
  ///
  /// What a program that runs meanwhile writes may be there or not, word by word.
  public borrowing func load(into bytes: UnsafeMutableRawBufferPointer, at offset: Int = 0) throws(CUDAError) {
    precondition(offset >= 0 && bytes.count <= count - offset)
    guard let base = bytes.baseAddress, bytes.count > 0 else { return }
    try context.use { driver throws(CUDAError) in
      try driver.check("cuMemcpyDtoH", driver.copyToHost(base, address + UInt64(offset), bytes.count))
    }
  }

  /// Makes all of it zero.
  public borrowing func clear() throws(CUDAError) {
    try context.use { driver throws(CUDAError) in
      try driver.check("cuMemsetD8", driver.memorySet(address, 0, max(1, count)))
    }
  }

  /// Hands a part of it, in whole pages, to other devices of this machine.
  ///
  /// From then on the driver orders its own copies with what those devices do.
  ///
  /// - Returns: a dma-buf's descriptor, the caller's to close.
  public borrowing func export(from offset: Int, count: Int) throws(CUDAError) -> Int32 {
    precondition(offset >= 0 && count > 0 && count <= self.count - offset)
    return try context.use { driver throws(CUDAError) in
      guard let getHandle = driver.memoryGetHandle else {
        throw CUDAError(.noDriver("it has no cuMemGetHandleForAddressRange; NVIDIA's driver has it from CUDA 11.7 on"))
      }
      // CU_POINTER_ATTRIBUTE_SYNC_MEMOPS.
      var isOrdered: UInt32 = 1
      try driver.check("cuPointerSetAttribute", driver.pointerSetAttribute(&isOrdered, 6, address))
      var descriptor: Int32 = -1
      // CU_MEM_RANGE_HANDLE_TYPE_DMA_BUF_FD.
      try driver.check(
        "cuMemGetHandleForAddressRange", getHandle(&descriptor, address + UInt64(offset), count, 1, 0))
      return descriptor
    }
  }

  deinit {
    let (driver, address) = (context.driver, address)
    try? context.use { _ in _ = driver.memoryFree(address) }
  }
}

/// Host memory that a GPU sees, too.
///
/// Owns the registration, not the memory, which must outlive it.
public struct RegisteredMemory: ~Copyable {
  private let context: GPUContext
  private let pieces: [Piece]

  private struct Piece {
    let host: UnsafeMutableRawPointer
    let count: Int
    let device: UInt64
  }

  /// The driver takes less than 512 GiB in one call; more memory goes in pieces.
  private static let largestPiece = 64 << 30

  /// Registers memory of whole pages.
  ///
  /// Its pages stay where they are from now on, whatever becomes of their file.
  ///
  /// Cost: about 50 ms a GiB.
  ///
  /// - Parameters:
  ///   - context: the GPU that is to see it.
  ///   - memory: whole pages. They outlive the registration.
  ///   - isReadOnly: whether the GPU may not write it.
  ///   - isDriver: whether a driver maps it there by physical addresses, which ascend: memory without pages that could be
  ///     pinned.
  /// - Throws: ``CUDAError`` where the driver does not take such memory, or not so much of it.
  public init(
    _ context: GPUContext, _ memory: UnsafeRawBufferPointer, isReadOnly: Bool, isDriver: Bool = false
  ) throws(CUDAError) {
    self.context = context
    guard let base = UnsafeMutableRawPointer(mutating: memory.baseAddress) else {
      pieces = []
      return
    }
    pieces = try context.use { driver throws(CUDAError) in
      var pieces: [Piece] = []
      do throws(CUDAError) {
        for offset in stride(from: 0, to: memory.count, by: Self.largestPiece) {
          let count = min(Self.largestPiece, memory.count - offset)
          // Portable, mapped, and of a device or read-only where it is so.
          let flags: UInt32 = 0x1 | 0x2 | (isDriver ? 0x4 : 0) | (isReadOnly ? 0x8 : 0)
          try driver.check("cuMemHostRegister", driver.hostRegister(base + offset, count, flags))
          var device: UInt64 = 0
          let result = driver.hostGetDevicePointer(&device, base + offset, 0)
          pieces.append(Piece(host: base + offset, count: count, device: device))
          try driver.check("cuMemHostGetDevicePointer", result)
        }
      } catch {
        for piece in pieces { _ = driver.hostUnregister(piece.host) }
        throw error
      }
      return pieces
    }
  }

  /// Where the GPU sees the memory: pieces in ascending order, each a host address, a count of bytes and a GPU's address.
  public var parts: [(host: UnsafeRawPointer, count: Int, device: UInt64)] {
    pieces.map { (UnsafeRawPointer($0.host), $0.count, $0.device) }
  }

  deinit {
    let (driver, pieces) = (context.driver, pieces)
    try? context.use { _ in for piece in pieces { _ = driver.hostUnregister(piece.host) } }
  }
}
