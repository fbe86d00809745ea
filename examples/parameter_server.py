"""A parameter server: workers read the newest parameters, compute gradients on their share of the data, and send them.

The data is one shared array, which nobody copies; parameters are a topic, as only the newest count; gradients a queue.
"""

from multiprocessing import Process

import numpy as np

import shmkit

TRUE = np.array([2.0, -1.0, 0.5])
STEPS, WORKERS = 60, 2


def work(data: shmkit.SharedArray, parameters: shmkit.Subscriber, gradients: shmkit.Queue) -> None:
    inputs, outputs = data[:, :-1], data[:, -1]
    try:
        while True:
            step, weights = parameters.recv(timeout=10.0)
            error = inputs @ weights - outputs
            gradients.put((step, 2 * inputs.T @ error / len(inputs)))
    except shmkit.EndOfStream:
        return


def main() -> None:
    random = np.random.default_rng(1)
    data = shmkit.empty((2000, 4))
    data[:, :3] = random.normal(size=(2000, 3))
    data[:, 3] = data[:, :3] @ TRUE

    parameters = shmkit.Publisher(slots=8, slot_size="64 KiB")
    gradients = shmkit.Queue()
    shares = [data[number::WORKERS] for number in range(WORKERS)]  # views: they travel as references
    workers = [Process(target=work, args=(share, parameters.subscriber(), gradients)) for share in shares]
    for worker in workers:
        worker.start()
    weights = np.zeros(3)
    for step in range(STEPS):
        parameters.publish((step, weights))
        for _ in workers:
            told, gradient = gradients.get(timeout=10.0)
            assert told == step
            weights = weights - 0.05 * gradient
    parameters.close()
    for worker in workers:
        worker.join()
    print("found:", np.round(weights, 2), "- true:", TRUE)
    assert np.allclose(weights, TRUE, atol=0.05)


if __name__ == "__main__":
    main()
