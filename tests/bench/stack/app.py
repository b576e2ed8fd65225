"""The stack that one would build without intentd: FastAPI, uvicorn, PyTorch, FAISS, orjson.

    STACK_MODEL=DIR STACK_INDEX=index.faiss uvicorn app:app --workers 2 --loop uvloop --http httptools

POST /v1/recommend takes {"history": [ids], "limit": n} and answers as the daemon does.  STACK_BATCH: most requests that
one call of the model and one of the index answer (1: each alone); whatever waits when the event loop comes round goes
together, nobody waits for company.  STACK_THREADS: of PyTorch and of FAISS, in each worker.
"""
import asyncio
import os
import time
import uuid

import orjson
from fastapi import FastAPI, Request, Response

from retrieve import Retriever

BATCH = int(os.environ.get("STACK_BATCH", "1"))
retriever = Retriever(os.environ["STACK_MODEL"], os.environ.get("STACK_INDEX"),
                      int(os.environ.get("STACK_THREADS", "1")), os.environ.get("STACK_ENCODER", "jit"))
about = {"name": "stack", "version": "1", "index": type(retriever.index).__name__, "items": len(retriever.ids)}
app = FastAPI(openapi_url=None)
waiting = []


def flush():
    """Answers what waits; as long as there is more, the event loop comes by in between."""
    batch = waiting[:BATCH]
    del waiting[:BATCH]
    if waiting:
        asyncio.get_running_loop().call_soon(flush)
    try:
        answers = retriever.recommend([request for request, _ in batch])
    except Exception as e:  # pylint: disable=broad-except
        for _, future in batch:
            future.set_exception(e)
        return
    for (_, future), answer in zip(batch, answers):
        if not future.cancelled():
            future.set_result(answer)


async def batched(request):
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    if not waiting:
        loop.call_soon(flush)
    waiting.append((request, future))
    return await future


@app.post("/v1/recommend")
async def recommend(request: Request):
    began = time.perf_counter()
    body = orjson.loads(await request.body())
    history = [str(i) for i in body["history"]]
    one = (history, body.get("limit", 20))
    items = (await batched(one)) if BATCH > 1 else retriever.recommend([one])[0]
    known = sum(i in retriever.row for i in history)
    return Response(orjson.dumps({
        "recommendation_id": uuid.uuid4().hex[:16],
        "model": about,
        "items": [{"item_id": i, "score": s, "interest": k} for i, s, k in items],
        "history": {"received": len(history), "used": min(known, retriever.max_len), "unknown": len(history) - known,
                    "truncated": known > retriever.max_len},
        "fallback": None,
        "degraded": None,
        "took_ms": round((time.perf_counter() - began) * 1e3, 3),
    }), media_type="application/json")


@app.get("/readyz")
async def ready():
    return {"status": "ready"}
