public import Synchronization

/// A reference that is made on first use, by whoever comes first. As `AtomicLazyReference`, whose `load` is not specialized
/// and takes longer than all of binding a row.
@usableFromInline
struct LazyReference<Instance: AnyObject & Sendable>: ~Copyable, Sendable {
    // 0, or the address of an instance that this value retains, or that whoever replaced it keeps as long.
    @usableFromInline let address = Atomic<UInt>(0)

    init() {}

    deinit {
        if let pointer = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) {
            Unmanaged<Instance>.fromOpaque(pointer).release()
        }
    }

    @inlinable
    func load() -> Instance? {
        guard let pointer = UnsafeRawPointer(bitPattern: address.load(ordering: .acquiring)) else { return nil }
        return Unmanaged<Instance>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Keeps `instance`, unless another was first; answers the one that is kept.
    func storeIfNil(_ instance: Instance) -> Instance {
        let retained = Unmanaged.passRetained(instance)
        let new = UInt(bitPattern: retained.toOpaque())
        let (exchanged, first) = address.compareExchange(
            expected: 0, desired: new, ordering: .acquiringAndReleasing)
        if exchanged { return instance }
        retained.release()
        guard let pointer = UnsafeRawPointer(bitPattern: first) else { return instance }
        return Unmanaged<Instance>.fromOpaque(pointer).takeUnretainedValue()
    }

    /// Keeps another instance.
    ///
    /// - Returns: the one that was kept: it must live as long as this value, as somebody may just have loaded its address.
    func replace(_ instance: Instance) -> Instance? {
        // What is kept is retained once, as in storeIfNil; what was kept leaves with the retain that it came with.
        let new = UInt(bitPattern: Unmanaged.passRetained(instance).toOpaque())
        let former = address.exchange(new, ordering: .acquiringAndReleasing)
        guard let pointer = UnsafeRawPointer(bitPattern: former) else { return nil }
        return Unmanaged<Instance>.fromOpaque(pointer).takeRetainedValue()
    }
}
